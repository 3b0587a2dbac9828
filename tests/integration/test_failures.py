"""What breaks, and what goes on: killed arbiters, loops that hang, crash loops, refused forks,
orphans."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import places
import psutil
import pytest
from instance import DEADLINE, Instance, is_alive, wait_for

from gworker.cli import instances

pytestmark = pytest.mark.timeout(180)

MakeInstance = Callable[..., Instance]

APPS = places.APPS

APP = places.app("failures")


def pid_of(one: Instance) -> int:
    """The pid of the process that answers."""
    return int(one.ask("text", b"pid\n"))


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


def test_the_processes_of_a_killed_arbiter_leave_by_themselves(instance: MakeInstance) -> None:
    one = instance(APP, "-w", "2")
    # A copy of its sibling's line to the arbiter would keep that sibling from seeing the end of it.
    assert len({child.num_fds() for child in one.children()}) == 1
    with one.connect("text") as connection:
        connection.sendall(b"sleep 2\n")
        wait_for(lambda: one.status()["totals"]["requests"] == 1, "the handler runs")
        port, arbiter = one.port("text"), psutil.Process(one.pid)
        arbiter.kill()
        wait_for(lambda: not is_alive(arbiter), "dead")
        assert instances.scan([str(one.runtime)]) == [], (
            "the processes that are left do not hold the pid file"
        )
        assert connection.recv(100), "what runs is finished"
    wait_for(lambda: not one.processes(), "all have left", 20)
    assert refused(port)
    for label in ("text#0", "text#1"):
        one.wait_log(f"the arbiter is gone: {label} finishes what it has")


MORE = """
crashing = Worker("text://127.0.0.1:0", on_message=lambda connection, line: crash_in_c())
stopped = Worker()
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance in which no process may hang for more than a second. One of its processes is
    stopped."""
    one = Instance(tmp_path_factory.mktemp("watched") / "instance", APP + MORE)
    try:
        one.start("--timeout", "1")
        os.kill(one.workers("stopped")[0]["pid"], signal.SIGSTOP)
        yield one
    finally:
        one.kill()


def end_of(one: Instance, name: str, old: int) -> str:
    """How the process `old` of a Worker ended."""
    (row,) = wait_for(
        lambda: [row for row in one.status()["exits"] if row["pid"] == old], f"the end of {old}"
    )
    assert row["worker"] == name
    return str(row["reason"])


HUNG = "its event loop did not turn for 1 s: killed by signal 9 (SIGKILL)"


@pytest.mark.parametrize("function", ["spin_for_ever", "crunch_in_c", "doze_in_c"])
def test_a_hanging_loop_is_dumped_and_replaced(watched: Instance, function: str) -> None:
    old = pid_of(watched)
    with watched.connect("text") as other, watched.connect("text") as connection:
        other.sendall(b"sleep 30\n")
        wait_for(lambda: watched.status()["totals"]["requests"] >= 1, "another handler waits")
        connection.sendall(function.partition("_")[0].encode() + b"\n")
        assert end_of(watched, "text", old) == HUNG
    stacks = watched.read_log().partition(f"text#0 (pid {old}) hangs; its stacks follow")[2]
    assert f"in {function}" in stacks
    assert "in answer" in stacks
    # A call into C that keeps the interpreter's lock leaves no thread to list the greenlets.
    assert stacks.count("time.sleep(float(rest))") == (0 if function == "crunch_in_c" else 1)
    assert ("Greenlet" in stacks) == (function != "crunch_in_c")
    wait_for(lambda: watched.workers("text")[0]["state"] == "ready", "replaced")
    assert pid_of(watched) != old


def test_a_stopped_process_is_killed_and_replaced(watched: Instance) -> None:
    (row,) = wait_for(
        lambda: [row for row in watched.status()["exits"] if row["worker"] == "stopped"], "killed"
    )
    assert row["reason"] == HUNG
    assert (
        f"stopped#0 (pid {row['pid']}) hangs; it is stopped (SIGSTOP, or a debugger)"
        in watched.read_log()
    )
    wait_for(lambda: watched.workers("stopped")[0]["pid"] not in (None, row["pid"]), "replaced")


def test_a_crash_in_c_leaves_its_stack(watched: Instance) -> None:
    old = watched.workers("crashing")[0]["pid"]
    with watched.connect("crashing") as connection:
        connection.sendall(b"go\n")
        assert end_of(watched, "crashing", old) == "killed by signal 11 (SIGSEGV)"
    assert (
        "in crash_in_c" in watched.read_log().partition("Fatal Python error: Segmentation fault")[2]
    )
    watched.wait_log(f"crashing#0 (pid {old}) killed by signal 11 (SIGSEGV), after ")


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group that may use 200 MB."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    v1 = next((path for _, controllers, path in lines if "memory" in controllers.split(",")), None)
    v2 = next((path for _, controllers, path in lines if not controllers), "/")
    base = Path("/sys/fs/cgroup") if v1 is None else Path("/sys/fs/cgroup/memory")
    group = Path(f"{base}{v2 if v1 is None else v1}") / f"gworker-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"needs a control group of its own: {error}")
    try:
        (group / ("memory.max" if v1 is None else "memory.limit_in_bytes")).write_text("200000000")
        yield group
    except OSError as error:
        pytest.skip(f"needs the memory controller: {error}")
    finally:
        group.rmdir()


def test_the_kernel_kills_for_want_of_memory(tmp_path: Path, small_group: Path) -> None:
    one = Instance(tmp_path / "instance", APP)
    one.prefix = ["sh", "-c", f'echo $$ > {small_group}/cgroup.procs && exec "$@"', "sh"]
    try:
        one.start()
        old = pid_of(one)
        with one.connect("text") as connection:
            connection.sendall(b"eat 1000000000\n")
            assert end_of(one, "text", old) == "out of memory: killed by the kernel"
    finally:
        one.kill()


def test_a_stopped_arbiter_does_not_kill_healthy_processes(instance: MakeInstance) -> None:
    """All of them stand still, as in a frozen container, for longer than --timeout."""
    one = instance(APP, "--timeout", "1")
    old, arbiter = pid_of(one), one.pid
    os.kill(arbiter, signal.SIGSTOP)
    os.kill(old, signal.SIGSTOP)
    begin = time.monotonic()
    wait_for(lambda: time.monotonic() - begin > 5, "five seconds")
    os.kill(arbiter, signal.SIGCONT)
    os.kill(old, signal.SIGCONT)
    one.wait_log("the arbiter stood still for ")
    ticks = psutil.Process(arbiter).num_ctx_switches().voluntary
    wait_for(
        lambda: psutil.Process(arbiter).num_ctx_switches().voluntary >= ticks + 4, "some ticks"
    )
    assert pid_of(one) == old
    assert one.status()["exits"] == []


TALKATIVE = places.app("talkative")


def test_processes_that_never_stop_talking_keep_no_hung_one_alive(instance: MakeInstance) -> None:
    one = instance(TALKATIVE, "--timeout", "1")
    (hung,) = (row["pid"] for row in one.workers("ninth"))
    (one.directory / "no-successors").touch()
    with one.connect("ninth") as connection:
        connection.sendall(b"hang\n")
        one.wait_log("its event loop did not turn for 1 s: killed by signal 9 (SIGKILL)")
    assert not psutil.pid_exists(hung)


def test_a_crash_loop_backs_off(instance: MakeInstance) -> None:
    """It neither ends the arbiter nor burns the processor nor fills the disk."""
    one = instance(places.app("crash_loop"))
    wait_for(lambda: len(one.status()["exits"]) >= 5, "five crashes")
    status = one.status()
    assert {row["reason"] for row in status["exits"]} == {"exited 3"}
    gaps = [after["time"] - before["time"] for before, after in pairwise(status["exits"][:5])]
    assert all(gap > 0.1 * 2**number for number, gap in enumerate(gaps)), gaps
    one.wait_log("bad#0 is started again in 0.8 s")
    assert status["state"] == "running"
    assert one.ask("good", b"abc\n") == b"abc\n"
    lines = one.read_log().splitlines()
    assert len([line for line in lines if "bad#0" in line]) <= 4 * (len(status["exits"]) + 1)
    arbiter = psutil.Process(one.pid).cpu_times()
    assert arbiter.user + arbiter.system < 5


SUBREAPER = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_orphans_are_reaped_and_their_exit_codes_mean_nothing(tmp_path: Path) -> None:
    """As a subreaper, or as process 1 of a container."""
    one = Instance(tmp_path / "instance", APP)
    one.prefix = [sys.executable, "-c", SUBREAPER]
    try:
        one.start()
        worker = pid_of(one)
        assert int(one.ask("text", b"orphan\n")) == worker
        path = one.directory / "orphan"
        wait_for(lambda: path.exists() and path.read_text(), "the orphan tells its pid")
        orphan = int(path.read_text())
        wait_for(lambda: not psutil.pid_exists(orphan), "reaped")
        assert pid_of(one) == worker
        assert one.status()["exits"] == []
        assert [child.pid for child in one.children()] == [worker]
    finally:
        one.kill()


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare(1)"
)
def test_as_process_1(tmp_path: Path) -> None:
    """A container's: signals have no default action there, orphans come to it, and its end is
    everybody's."""
    directory = tmp_path / "instance"
    one = Instance(
        directory,
        APP.replace('"text://127.0.0.1:0"', f'"text://{directory}/x.sock", transport="unix"'),
    )
    one.prefix = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    one.start()
    assert one.process is not None

    def ask(line: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE)
            client.connect(str(directory / "x.sock"))
            client.sendall(line)
            return client.recv(100)

    try:
        (arbiter,) = psutil.Process(one.process.pid).children()
        assert one.pid == 1
        ask(b"orphan\n")
        path = directory / "orphan"
        wait_for(lambda: path.exists() and path.read_text(), "the orphan tells its pid")
        wait_for(lambda: len(arbiter.children(recursive=True)) == 1, "reaped")
        assert ask(b"pid\n")
        arbiter.send_signal(signal.SIGTERM)
        assert one.wait_exit() == 0
    finally:
        one.process.kill()
        one.process.communicate()


def test_a_program_that_user_code_leaves_running_keeps_nothing_open(instance: MakeInstance) -> None:
    """Neither the port nor the pid file's lock nor the end of file that the arbiter waits for."""
    one = instance(places.app("leaves_a_child"))
    port = one.port("text")
    left = psutil.Process(int(one.ask("text", b"go\n")))
    try:
        one.signal(signal.SIGTERM)
        assert one.wait_exit() == 0
        assert left.is_running()
        assert refused(port)
        assert list(one.runtime.iterdir()) == []
    finally:
        left.kill()


def test_two_starts_at_once_are_one_instance(tmp_path: Path) -> None:
    one = Instance(tmp_path / "instance", APP)
    command = one.command("app", "-d", "--log-file", str(one.log))
    try:
        starts = [
            subprocess.Popen(
                command,
                cwd=one.directory,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        ended = sorted((start.communicate(timeout=DEADLINE), start.returncode) for start in starts)
        assert sorted(code for _, code in ended) == [0, 1]
        assert "is already running" in "".join(errors for (_, errors), _ in ended)
        assert pid_of(one)
    finally:
        one.kill()


def test_a_process_out_of_descriptors_hears_its_arbiter_on(instance: MakeInstance) -> None:
    """What it is asked then fails, and costs only the answer."""
    one = instance((APPS / "log_targets.py").read_text())
    with one.connect("plain") as client:
        client.sendall(b"take\n")
        assert client.recv(100) == b"take\n"
        before = one.workers("plain")[0]["pid"]
        assert one.ask_arbiter("connections")[-1]["missing"] == [before], (
            "there is no descriptor for the list"
        )
        one.wait_log("Too many open files")
        client.sendall(b"free\n")
        assert client.recv(100) == b"free\n"
        assert one.ask_arbiter("connections")[-1]["missing"] == []
    assert one.reload()["exit"] == 0
    wait_for(
        lambda: [row["pid"] for row in one.workers("plain")] != [before],
        "it is replaced, and has left",
        20,
    )
