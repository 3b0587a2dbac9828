"""--preload: one process per generation loads the target, and all others are forked from it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import places
import psutil
import pytest
from instance import is_alive, wait_for
from pki import Pki
from serving import Client, Served

APP = places.app("preloaded")

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path / "preloaded", APP)
    try:
        yield one
    finally:
        one.kill()


def ask(app: Served, what: str, name: str = "text") -> str:
    with Client(app, name) as client:
        client.send(f"{what}\n")
        return client.line()


def mold(app: Served, but: int = 0) -> psutil.Process:
    """The process from which the others are forked, once it has loaded the target."""

    def found() -> list[str]:
        pids = re.findall(r"the mold is ready \(pid (\d+),", app.read_log())
        return [pid for pid in pids[-1:] if int(pid) != but]

    return psutil.Process(int(wait_for(found, "a mold that is ready")[0]))


def test_the_target_is_loaded_once_per_generation(app: Served) -> None:
    app.start("--preload")
    first = mold(app)
    assert app.events("loaded") == [str(first.pid)]
    assert {ask(app, "loaded", name) for name in ("text", "other")} == {str(first.pid)}
    pids = {row["pid"] for row in app.workers()}
    assert len(pids) == 4
    assert {psutil.Process(pid).ppid() for pid in pids} == {app.pid}
    assert app.reload() == {"exit": 0}
    second = mold(app, but=first.pid)
    wait_for(lambda: not is_alive(first), "the first mold has ended")
    assert app.events("loaded") == [str(first.pid), str(second.pid)]
    assert ask(app, "loaded") == str(second.pid)
    app.signal(signal.SIGTERM)
    assert app.wait_exit() == 0
    assert not is_alive(second)


def test_each_process_has_a_life_of_its_own(app: Served) -> None:
    """Greenlets and threads that were begun as the target was loaded go on in all of them; random
    numbers differ; handlers wait and fork as ever."""
    app.start("--preload")
    wait_for(lambda: int(ask(app, "ticks")) > 20, "greenlets run")
    wait_for(lambda: int(ask(app, "runs")) > 2, "timers run")
    numbers, pids = set(), set()
    while len(pids) < 3:
        with Client(app, "text") as client:
            client.send("pid\nrandom\nsleep\n")
            pids.add(client.line())
            numbers.add(client.line())
            assert client.line() == "slept"
    assert len(numbers) >= 3
    copy = ask(app, "fork")
    assert app.events("copy") == [copy]
    assert len([line for line in app.events("started") if line.endswith(" 0")]) == 3


def test_a_process_that_dies_is_forked_anew(app: Served) -> None:
    app.start("--preload")
    source = mold(app)
    dead = app.server("other")
    dead.kill()
    wait_for(lambda: app.row("other")["pid"] not in (None, dead.pid), "another process")
    wait_for(lambda: app.row("other")["state"] == "ready", "it is ready")
    assert ask(app, "loaded", "other") == str(source.pid)
    assert app.events("loaded") == [str(source.pid)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_a_mold_that_dies_or_hangs_is_replaced(app: Served, how: signal.Signals) -> None:
    """What is needed meanwhile loads the target itself."""
    app.start("--preload")
    first, dead = mold(app), app.server("other")
    first.send_signal(how)
    dead.kill()
    wait_for(lambda: app.row("other")["pid"] not in (None, dead.pid), "another process")
    wait_for(lambda: app.row("other")["state"] == "ready", "it is ready")
    assert ask(app, "sum", "other") == str(sum(len(str(n)) * 10 for n in range(100_000)))
    second = mold(app, but=first.pid)
    wait_for(lambda: not is_alive(first), "the first mold has ended")
    dead = app.server("other")
    dead.kill()
    wait_for(lambda: app.row("other")["pid"] not in (None, dead.pid), "another process")
    wait_for(lambda: app.row("other")["state"] == "ready", "it is ready")
    assert ask(app, "loaded", "other") == str(second.pid)


def test_a_target_that_does_not_load_leaves_the_old_mold(app: Served) -> None:
    flag = app.directory / "fails"
    app.start("--preload", "--env", f"FAILS={flag}")
    source = mold(app)
    flag.touch()
    *_, end = app.ask_arbiter("reload")
    assert end["exit"] == 1
    assert "not today" in end["error"]
    dead = app.server("other")
    dead.kill()
    wait_for(lambda: app.row("other")["pid"] not in (None, dead.pid), "another process")
    wait_for(lambda: app.row("other")["state"] == "ready", "it is ready")
    assert ask(app, "loaded", "other") == str(source.pid)


def test_a_start_that_fails_says_why(app: Served) -> None:
    flag = app.directory / "fails"
    flag.touch()
    done = app.run("start", "app", "--preload", "--env", f"FAILS={flag}")
    assert done.returncode == 1
    assert "RuntimeError: not today" in done.stderr


def test_a_target_that_hangs_as_it_is_loaded(app: Served) -> None:
    app.write("import time; time.sleep(3600)")
    done = app.run("start", "app", "--preload", "--boot-timeout", "1")
    assert done.returncode == 1
    assert "target app was still being loaded after 1 s, at app.py:1" in done.stderr


def test_connections_that_all_would_share_are_named(app: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        app.start("--preload", "--env", f"OPENS={port}")
        app.wait_log(
            f"loading the target has opened 1 socket, which all processes share now"
            f" (127.0.0.1:{port}): with --preload, open connections in on_worker_start"
        )


def test_ctrl_c_ends_it_all(app: Served) -> None:
    app.start("--preload")
    processes = [mold(app), *app.processes()]
    for process in processes:
        process.send_signal(signal.SIGINT)
    assert app.wait_exit() == 0
    for process in processes:
        wait_for(lambda process=process: not is_alive(process), f"{process} has ended")


def test_an_upgrade_makes_a_new_mold(app: Served) -> None:
    app.start("--preload")
    first = mold(app)
    *_, end = app.ask_arbiter("upgrade")
    assert end["exit"] == 0
    second = mold(app, but=first.pid)
    wait_for(lambda: not is_alive(first), "the first mold has ended")
    assert ask(app, "loaded") == str(second.pid)


def test_log_files_are_reopened_everywhere(app: Served) -> None:
    app.start("--preload")
    source = mold(app)
    app.log.rename(app.directory / "log.1")
    app.signal(signal.SIGUSR1)
    app.wait_log("log files reopened")
    dead = app.server("other")
    dead.kill()
    app.wait_log("log files reopened")
    wait_for(lambda: app.row("other")["pid"] not in (None, dead.pid), "another process")
    for pid in (source.pid, app.row("other")["pid"]):

        def open_files(pid: int = pid) -> set[str]:
            return {each.path for each in psutil.Process(pid).open_files()}

        wait_for(lambda: str(app.log) in open_files(), "the new file")
        assert str(app.directory / "log.1") not in open_files()


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root, to drop privileges with setpriv(1)",
)
def test_as_another_user_with_a_key_of_root(open_path: Path) -> None:
    uid = pwd.getpwnam("nobody").pw_uid
    app = Served(open_path / "preloaded", APP)
    pem, key = Pki(app.directory).issue("site", "127.0.0.1")
    os.chmod(key, 0o600)
    os.chown(app.directory, uid, -1)
    # It may read this test's Python, which perhaps is root's alone.
    app.prefix = ["setpriv", "--securebits=+no_setuid_fixup"]
    try:
        app.start("--preload", "--user", "nobody", "--env", f"TLS={pem},{key}")
        assert mold(app).uids().effective == uid
        assert {psutil.Process(row["pid"]).uids().effective for row in app.workers()} == {uid}
        assert ask(app, "loaded") == str(mold(app).pid)
    finally:
        app.kill()


def test_all_that_a_process_costs_is_shared(app: Served) -> None:
    """What the table takes is there once, also after all of it was read."""
    app.start("--preload")
    table = psutil.Process(mold(app).pid).memory_full_info().uss
    for row in app.workers("text"):
        assert psutil.Process(row["pid"]).memory_full_info().uss < 40 << 20, table
