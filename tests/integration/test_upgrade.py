"""The arbiter's own code is replaced in place: the pid, the sockets, the children and the books
stay."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import places
import psutil
import pytest
from instance import Instance, wait_for

import gworker

APP = places.app("upgraded")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance that runs a copy of gworker, so that its code can be changed under it."""
    directory = tmp_path_factory.mktemp("upgrade")
    copy = directory / "code" / "gworker"
    shutil.copytree(Path(gworker.__file__).parent, copy)
    one = Instance(directory / "app", APP)
    one.prefix = ["env", f"PYTHONPATH={copy.parent}"]
    one.start("--access-log", str(directory / "access"))
    yield one
    one.kill()


def code(app: Instance) -> Path:
    return app.directory.parent / "code" / "gworker"


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    os.utime(path, (time.time(), path.stat().st_mtime + 2))


def test_new_code_old_pid_and_no_client_is_disconnected(app: Instance) -> None:
    pid, before = app.pid, app.status()
    ports = {name: app.port(name) for name in ("lines", "web", "slots")}
    load = subprocess.Popen(
        [*places.program("load"), "tcp", "127.0.0.1",
        str(ports["slots"])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert load.stdout is not None
    assert load.stdout.readline() == "running\n"
    with app.connect("lines") as connection:
        file = connection.makefile("rw")
        file.write("half a li")
        file.flush()
        change(code(app) / "version.py", '"0.1.0"', '"0.2.0"')
        result = app.run("upgrade")
        assert result.returncode == 0, result.stderr
        steps = result.stdout.splitlines()
        assert steps[:3] == [
            "trying the new code",
            "gworker 0.1.0 makes way for the new code",
            "gworker 0.2.0 has taken over from gworker 0.1.0",
        ]
        assert "generation 2 serves after" in steps[-1]
        file.write("ne\n")
        file.flush()
        server, *words = file.readline().split()
        assert words == ["half", "a", "line"]
    after = app.status()
    assert (app.pid, after["version"], after["generation"]) == (pid, "0.2.0", 2)
    assert after["arbiter"]["pid"] == pid
    assert after["arbiter"]["uptime"] > before["arbiter"]["uptime"]
    assert after["last_reload"]["handed_over"] >= 1
    assert int(server) in {row["pid"] for row in app.workers("lines")}
    assert {name: app.port(name) for name in ports} == ports
    old = {row["pid"] for row in before["workers"]}
    wait_for(lambda: not old & {row["pid"] for row in app.workers()}, "those from before have left")
    out, _ = load.communicate("")
    assert '"faults": {}' in out, out


def test_everything_works_as_before(app: Instance) -> None:
    """Signals, the lock, the logs, the deaths of children: what the old arbiter held, the new one
    holds."""
    generation = app.status()["generation"]
    app.signal(signal.SIGUSR2)
    wait_for(lambda: app.status()["generation"] == generation + 1, "an upgrade by signal")
    wait_for(lambda: app.status()["state"] == "running", "it is over")
    second = app.run("start", "app", "--log-file", "other")
    assert second.returncode == 1
    assert f"already running (pid {app.pid})" in second.stderr
    victim = app.workers("web")[0]["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_for(
        lambda: any(exit["pid"] == victim for exit in app.status()["exits"]), "its death is noticed"
    )
    wait_for(
        lambda: [r["state"] for r in app.workers("web") if r["pid"] != victim] == ["ready"],
        "and it is replaced",
    )
    moved = app.log.with_suffix(".1")
    app.log.rename(moved)
    app.signal(signal.SIGUSR1)
    wait_for(lambda: "log files reopened" in app.read_log(), "logs are reopened")
    moved.write_text(moved.read_text() + app.read_log())
    moved.rename(app.log)
    app.signal(signal.SIGUSR1)
    app.signal(signal.SIGTTIN)
    wait_for(lambda: len(app.workers("web")) == 2, "one more by a signal")
    app.signal(signal.SIGTTOU)
    wait_for(lambda: len(app.workers("web")) == 1, "and one fewer")
    assert b" local" in talk(str(app.directory / "local.sock"), b"local\n")
    assert app.reload()["exit"] == 0
    assert psutil.Process(app.pid).num_fds() < 60


def talk(path: str, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(path)
        client.sendall(data)
        return client.recv(100)


@pytest.mark.parametrize(
    ("file", "before", "after", "reason"),
    [
        ("arbiter.py", "class Arbiter:", "class Arbiter(:", "SyntaxError"),
        (
            "master/fleet.py",
            "import signal\n",
            "import signal, no_such_module\n",
            "No module named 'no_such_module'",
        ),
        ("master/upgrade_state.py", "FORMAT = 4", "FORMAT = 5", "that needs a restart"),
        (
            "ipc/declaration.py",
            "    backlog: int\n",
            "    backlog: int\n    extra: int\n",
            "does not understand",
        ),
    ],
)
def test_new_code_that_is_broken_changes_nothing(
    app: Instance, file: str, before: str, after: str, reason: str
) -> None:
    wait_for(
        lambda: all(row["state"] == "ready" for row in app.workers()), "the last reload is over"
    )
    was = app.status()
    path = code(app) / file
    text = path.read_text()
    change(path, before, after)
    # The command itself must not be of the broken code.
    broken, app.prefix = app.prefix, []
    try:
        result = app.run("upgrade")
    finally:
        app.prefix = broken
        path.write_text(text)
    assert result.returncode == 1
    assert "the new code cannot take over" in result.stderr
    assert reason in result.stderr
    now = app.status()
    assert [row["pid"] for row in now["workers"]] == [row["pid"] for row in was["workers"]]
    assert (now["state"], now["generation"]) == ("running", was["generation"])
    with app.connect("lines") as connection:
        connection.sendall(b"still here\n")
        assert connection.recv(100).endswith(b" still here\n")


def test_a_reload_does_not_mix_two_versions(app: Instance) -> None:
    path = code(app) / "connection" / "connection.py"
    text = path.read_text()
    try:
        path.write_text(text + "\n# changed")
        result = app.run("reload")
        assert result.returncode == 1
        assert "gworker itself has changed on the disk" in result.stderr
        assert "`gworker upgrade`" in result.stderr
    finally:
        path.write_text(text)  # the same code again, with a new time
    assert app.run("reload").returncode == 0


def test_settings_that_need_a_restart_refuse_it(app: Instance) -> None:
    (app.directory / "gworker.toml").write_text('log-format = "json"\n')
    try:
        result = app.run("upgrade")
    finally:
        (app.directory / "gworker.toml").unlink()
    assert result.returncode == 1
    assert "restart needed for: log-format" in result.stderr


def test_it_stops_and_leaves_nothing_behind(app: Instance) -> None:
    assert app.run("stop").returncode == 0
    assert not app.processes()
    assert not list(app.runtime.iterdir())
    assert not (app.directory / "local.sock").exists()
