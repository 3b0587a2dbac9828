"""Starting and stopping as an operator does: exit codes, words, and nothing that is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import places
import psutil
import pytest
from instance import DEADLINE, Instance, wait_for

TCP = """
    from gworker import Worker

    tcp = Worker("tcp://127.0.0.1:0", count=2)

    @tcp.on_message
    def echo(connection, data):
        connection.send(data)
"""

pytestmark = pytest.mark.timeout(
    180
)  # a start takes two seconds of CPU, and CI machines have other work

MakeInstance = Callable[[str], Instance]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeInstance]:
    """`make(source)`: an instance that is not started."""
    made: list[Instance] = []

    def one(source: str) -> Instance:
        made.append(Instance(tmp_path / f"instance-{len(made)}", source))
        return made[-1]

    yield one
    for instance in made:
        instance.kill()


def daemon(one: Instance, *arguments: str) -> subprocess.CompletedProcess[str]:
    return one.run(*(arguments or ("app",)), "-d", "--log-file", str(one.log))


def title(process: psutil.Process) -> str:
    return " ".join(process.cmdline()).strip()


def assert_nothing_is_left(one: Instance) -> None:
    wait_for(lambda: not one.processes(), f"no process is left: {one.processes()}", 10)
    assert not one.runtime.exists() or list(one.runtime.iterdir()) == []


def test_a_daemon_returns_when_every_process_is_ready_and_holds_no_pipe(make: MakeInstance) -> None:
    one = make(
        TCP
        + """
    import time

    @tcp.on_worker_start
    def slowly(worker):
        time.sleep(0.5 * worker.id)
    """
    )
    started = daemon(one)  # reads its pipes to their end
    assert started.returncode == 0, started.stderr
    assert started.stderr == ""
    assert "app is ready: 2 processes on tcp://127.0.0.1:" in started.stdout
    assert [row["state"] for row in one.workers()] == ["ready", "ready"]
    assert one.ask("tcp", b"abc") == b"abc"
    arbiter = psutil.Process(one.pid)
    assert arbiter.terminal() is None
    assert os.getsid(one.pid) != os.getsid(0)
    assert os.getsid(one.pid) != one.pid, (
        "it leads no session, so that it cannot get a terminal back"
    )
    assert os.readlink(f"/proc/{one.pid}/fd/0") == "/dev/null"

    second = daemon(one)
    assert second.returncode == 1
    assert f"app is already running (pid {one.pid})" in second.stderr
    assert one.ask("tcp", b"abc") == b"abc"

    stopped = one.run("stop", "app")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert "app stopped" in stopped.stdout
    assert_nothing_is_left(one)
    assert one.run("stop", "app").returncode == 3
    assert one.run("reload", "app").returncode == 3


BAD = {
    "module": ("", "nowhere:x", "module 'nowhere' not found; looked in ", False),
    "attribute": ("a = 1", "app:handler", "has no attribute 'handler'; it has a", False),
    "kind": ("handlers = 3", "app", "is 3 of type int; expected a Worker", False),
    "import": ("import os\n1 / 0", "app", "failed to load: ZeroDivisionError", True),
    "syntax": ("def f(:\n", "app", "failed to load: SyntaxError", False),
    "exit": ("import sys\nsys.exit(0)", "app", "called sys.exit(0) while it was loaded", True),
    "hard-exit": ("import os\nos._exit(0)", "app", "exited 0", False),
    "no-worker": ("a = 1", "app", "declares no Worker at all", False),
    "address": (
        "import gworker\ngworker.Worker('tcp:/x')",
        "app",
        "address 'tcp:/x': expected SCHEME://",
        True,
    ),
    "user": (
        "import gworker\ngworker.Worker(user='no-such-user-')",
        "app",
        "user 'no-such-user-' does not",
        False,
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_start_that_fails_says_why_exits_1_and_leaves_nothing(
    make: MakeInstance, case: str
) -> None:
    source, target, reason, has_traceback = BAD[case]
    one = make(source)
    started = daemon(one, target)
    assert started.returncode == 1
    assert started.stdout == ""
    assert reason in started.stderr
    assert ("Traceback (most recent call last)" in started.stderr) == has_traceback
    assert f"{os.sep}gworker{os.sep}" not in started.stderr, (
        "of gworker's own frames nothing is shown"
    )
    assert started.stderr.splitlines()[-1].startswith("gworker: error: ")
    assert_nothing_is_left(one)


HOOK = """
    import os, time
    from gworker import Worker
    tcp = Worker("tcp://127.0.0.1:0", count=2)

    @tcp.on_worker_start
    def begin(worker):
        {}
"""


@pytest.mark.parametrize(
    ("body", "reason", "has_traceback"),
    [
        ("raise RuntimeError('no database')", "RuntimeError: no database", True),
        ("os._exit(5)", "exited 5", False),
        ("raise SystemExit(4)", "SystemExit: 4", True),
        ("os.kill(os.getpid(), 11)", "killed by signal 11 (SIGSEGV)", False),
        ("time.sleep(1000)", "not ready within 6 s", False),
        ("raise RuntimeError('雪\\x00' * 100_000)", "RuntimeError: 雪", False),
    ],
    ids=["raises", "os._exit", "sys.exit", "crash", "boot-timeout", "huge"],
)
def test_a_hook_that_fails_at_the_start(
    make: MakeInstance, body: str, reason: str, has_traceback: bool
) -> None:
    one = make(HOOK.format(body))
    started = daemon(one, "app", "--boot-timeout", "6" if "sleep" in body else "60")
    assert started.returncode == 1
    assert reason in started.stderr
    assert ("in begin" in started.stderr) == has_traceback
    assert f"{os.sep}gworker{os.sep}" not in started.stderr
    assert len(started.stderr) <= 8193
    if body.startswith(("os.kill", "time.sleep")):
        assert "in begin" in one.read_log(), "where it crashed, or was when its time was up"
    assert_nothing_is_left(one)


def test_an_address_that_is_taken(make: MakeInstance) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        one = make(f"import gworker\ngworker.Worker({url!r})")
        started = daemon(one)
    in_use = f"cannot listen on {url}: the address is in use by another program: {os.getpid()} ("
    assert started.returncode == 1
    assert started.stderr.startswith(f"gworker: error: Worker 'tcp': {in_use}")
    assert_nothing_is_left(one)


def test_an_address_that_another_instance_has(make: MakeInstance) -> None:
    first = make("import gworker\ngworker.Worker('tcp://127.0.0.1:0', count=2)")
    assert daemon(first).returncode == 0
    second = make(f"import gworker\ngworker.Worker({first.workers()[0]['listen']!r})")
    started = daemon(second)
    assert started.returncode == 1
    assert started.stderr.endswith(
        f"in use by another program: {first.pid} (gworker: master [app])\n"
    )


@pytest.mark.parametrize("case", ["import", "no-worker"])
def test_a_start_in_the_foreground_that_fails(make: MakeInstance, case: str) -> None:
    source, target, reason, has_traceback = BAD[case]
    one = make(source)
    started = one.run(target)
    assert started.returncode == 1
    assert reason in started.stderr
    assert ("Traceback" in started.stderr) == has_traceback
    assert_nothing_is_left(one)


def test_a_command_with_a_typing_error_is_no_target(make: MakeInstance) -> None:
    one = make(TCP)
    (one.directory / "stops.py").write_text("x = 1")
    started = one.run("statsu", "-d")
    assert started.returncode == 1
    assert started.stderr.startswith(
        "gworker: note: there is no command 'statsu'; did you mean status?\n"
    )
    assert "there is no command" not in one.run("stops").stderr


def test_a_stale_pid_file_does_not_matter_whatever_has_its_number(make: MakeInstance) -> None:
    one = make(TCP)
    one.runtime.mkdir(mode=0o700)
    (one.runtime / "app.pid").write_text(f"{os.getpid()}\n")  # alive, and none of ours
    assert one.run("status", "app").returncode == 3
    assert one.run("stop", "app").returncode == 3
    assert daemon(one).returncode == 0
    assert one.pid != os.getpid()
    assert one.run("stop").returncode == 0


def test_a_start_after_kill_9_of_the_arbiter(make: MakeInstance) -> None:
    one = make(TCP)
    assert daemon(one).returncode == 0
    os.kill(one.pid, signal.SIGKILL)
    wait_for(lambda: not one.processes(), "the workers have left too")
    assert sorted(path.name for path in one.runtime.iterdir()) == [
        "app.broker",
        "app.pid",
        "app.sock",
    ]
    assert daemon(one).returncode == 0
    assert one.ask("tcp", b"abc") == b"abc"
    assert one.run("stop", "--quick").returncode == 0
    assert_nothing_is_left(one)


def test_restart(make: MakeInstance) -> None:
    one = make(TCP)
    assert one.run("restart", "app", "-d").returncode == 0, "it starts what does not run"
    before = one.pid
    again = one.run("restart", "app", "-d", "--log-file", str(one.log))
    assert again.returncode == 0, again.stderr
    assert "app stopped" in again.stdout
    assert "app is ready" in again.stdout
    assert one.pid != before
    assert not psutil.pid_exists(before) or psutil.Process(before).status() == "zombie"
    assert one.ask("tcp", b"abc") == b"abc"


def test_pid_file_and_name(make: MakeInstance, tmp_path: Path) -> None:
    one = make(TCP)
    pid_file = tmp_path / "elsewhere.pid"
    assert daemon(one, "app", "--name", "shop", "--pid", str(pid_file)).returncode == 0
    assert int(pid_file.read_text()) == one.pid
    assert (one.runtime / "shop.sock").stat().st_mode & 0o777 == 0o600
    assert title(psutil.Process(one.pid)) == "gworker: master [shop]"
    assert sorted(title(child) for child in one.children()) == [
        "gworker: worker [shop] tcp#0",
        "gworker: worker [shop] tcp#1",
    ]
    listed = one.run("list")
    assert listed.returncode == 0
    assert "shop" in listed.stdout
    assert str(one.pid) in listed.stdout
    status = subprocess.run(
        [sys.executable, "-m", "gworker", "status", "--json", "--pid", str(pid_file)],
        capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
    assert json.loads(status.stdout)["name"] == "shop"
    assert one.run("stop", "--name", "shop").returncode == 0
    assert not pid_file.exists()
    assert one.run("list").stdout == "no instance is running\n"


SCRIPT = places.app("start")


def test_a_script_is_its_own_server(make: MakeInstance) -> None:
    one = make("")
    script = one.directory / "start.py"
    script.write_text(SCRIPT.replace("VERSION", "1"))

    def run(*arguments: str, cwd: Path = one.directory) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            os.path.relpath(script, cwd),
            *arguments,
            "--runtime-dir",
            str(one.runtime),
        ]
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, check=False, timeout=DEADLINE
        )

    started = run("start", "-d", "-w", "2")
    assert started.returncode == 0, started.stderr
    assert f"{script} is ready: 2 processes" in started.stdout
    assert run("start", "-d").returncode == 1
    status = run("status", "--json", cwd=one.directory.parent)
    assert json.loads(status.stdout)["name"] == str(script)
    assert one.ask("web", b"x\n") == b"__main__ 1 start.py\n"
    script.write_text(SCRIPT.replace("VERSION", "2.0"))
    reloaded = run("reload")
    assert reloaded.returncode == 0, reloaded.stderr
    assert one.ask("web", b"x\n") == b"__main__ 2.0 start.py\n"
    assert run("scale", "web", "3").returncode == 0
    wait_for(lambda: [row["state"] for row in one.workers()] == ["ready"] * 3, "three processes")
    assert run("check").returncode == 0
    assert run("dance").returncode == 2
    stopped = run("stop")
    assert (stopped.returncode, stopped.stdout) == (0, f"stopping 3 processes\n{script} stopped\n")
    assert_nothing_is_left(one)


def test_chdir_umask_and_env(make: MakeInstance, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    one = make(places.app("shows_surroundings"))
    options = (
        "--chdir",
        str(tmp_path / "data"),
        "--umask",
        "027",
        "--env",
        "COLOUR=blue",
        "--env",
        "EMPTY=",
    )
    started = daemon(one, "app.py", *options)
    assert started.returncode == 0, started.stderr
    data = str(tmp_path / "data")
    assert json.loads(one.ask("text", b"?\n")) == [data, 0o27, "blue", "", data]
    assert os.readlink(f"/proc/{one.pid}/cwd") == data
    one.run("stop")


@pytest.mark.parametrize(
    ("mask", "mode", "pid_mode"), [("077", 0o600, 0o600), ("022", 0o640, 0o644)]
)
def test_every_file_respects_umask(
    make: MakeInstance, tmp_path: Path, mask: str, mode: int, pid_mode: int
) -> None:
    one = make(TCP.replace("tcp://127.0.0.1:0", f"unix://{tmp_path}/web.sock"))
    files = ["--stdout-file", "out", "--access-log", "access", "--pid", str(tmp_path / "app.pid")]
    started = daemon(one, "app", "--umask", mask, *files)
    assert started.returncode == 0, started.stderr

    def mode_of(path: Path) -> int:
        return path.stat().st_mode & 0o777

    for path in (one.directory / "out", one.directory / "access", one.log):
        assert mode_of(path) == mode, path
    one.signal(signal.SIGUSR1)
    one.wait_log("log files reopened")
    assert mode_of(one.directory / "out") == mode
    assert mode_of(tmp_path / "web.sock") == 0o777 & ~int(mask, 8)
    assert [mode_of(path) for path in (tmp_path / "app.pid", *one.runtime.glob("*.pid"))] == [
        pid_mode
    ] * 2
    assert [mode_of(path) for path in (one.runtime, *one.runtime.glob("*.sock"))] == [0o700, 0o600]


def test_the_arbiter_is_small_and_idle(make: MakeInstance) -> None:
    """Neither gevent nor TLS nor user code, one thread, 25 MB, and no more than one wake-up a
    second."""
    one = make(TCP)
    assert daemon(one).returncode == 0
    arbiter = psutil.Process(one.pid)
    maps = Path(f"/proc/{one.pid}/maps").read_text()
    for foreign in ("gevent", "greenlet", "_ssl", "libssl", "_asyncio"):
        assert foreign not in maps
    assert arbiter.num_threads() == 1
    assert arbiter.memory_info().rss < 28 * 1024 * 1024
    before, begin = arbiter.num_ctx_switches().voluntary, time.monotonic()
    wait_for(lambda: time.monotonic() - begin > 3, "three seconds")
    assert arbiter.num_ctx_switches().voluntary - before <= 6


def test_no_thread_module_of_gevent_in_the_arbiters_imports() -> None:
    names = ("gevent", "greenlet", "ssl", "asyncio", "concurrent.futures")
    program = (
        f"import sys, gworker.cli.serve; print([name for name in {names} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_check_tells_what_would_run_and_starts_nothing(make: MakeInstance) -> None:
    one = make(TCP)
    good = one.run("check", "app", "-w", "7", "--graceful-timeout", "3")
    assert good.returncode == 0, good.stderr
    assert "tcp     2          tcp://127.0.0.1:0" in good.stdout
    assert any(
        line.split() == ["graceful-timeout", "3.0", "command", "line"]
        for line in good.stdout.splitlines()
    )
    one.write("1 / 0")
    bad = one.run("check", "app")
    assert bad.returncode == 1
    assert "ZeroDivisionError" in bad.stderr
    assert "Traceback" in bad.stderr
    assert_nothing_is_left(one)
