"""Processes that are late or hang get stacks, then SIGKILL; and what a process is doing that does
not do its work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
from instance import wait_for
from world import World, declaration

from gworker.master import watchdog
from gworker.master.children import KILL_MARGIN
from gworker.master.watchdog import DUMP_SECONDS

MakeWorld = Callable[..., World]

TRACED = """
import ctypes, os, signal
PTRACE_TRACEME = 0
assert ctypes.CDLL(None).ptrace(PTRACE_TRACEME, 0, 0, 0) == 0
os.kill(os.getpid(), signal.SIGUSR1)
"""


@contextmanager
def running(code: str) -> Iterator[int]:
    """A Python that runs `code` and can be looked at."""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def wait_for_status(pid: int, status: str) -> None:
    wait_for(lambda: psutil.Process(pid).status() == status, status)


def test_stopped() -> None:
    with running("import signal; signal.pause()") as pid:
        os.kill(pid, signal.SIGSTOP)
        wait_for_status(pid, psutil.STATUS_STOPPED)
        assert watchdog.condition(pid).endswith(f"`kill -CONT {pid}` lets it go on")


def test_traced() -> None:
    """A debugger that has stopped it, as gdb(1) does."""
    with running(TRACED) as pid:
        wait_for_status(pid, psutil.STATUS_TRACING_STOP)
        assert watchdog.condition(pid) == f"it is stopped by a debugger (pid {os.getpid()})"


def test_busy_and_asleep() -> None:
    with running("while True: pass") as pid:
        wait_for_status(pid, psutil.STATUS_RUNNING)
        assert watchdog.condition(pid).startswith("it is running")
    with running("import signal; signal.pause()") as pid:
        wait_for_status(pid, psutil.STATUS_SLEEPING)
        assert watchdog.condition(pid).startswith("it is sleeping")


def test_gone() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert watchdog.condition(process.pid) == "it has ended, and its parent has not noticed"
    assert watchdog.condition(process.pid) == "it has ended"


def test_uninterruptible(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test can bring that about."""
    monkeypatch.setattr(psutil.Process, "status", lambda _: psutil.STATUS_DISK_SLEEP)
    assert watchdog.condition(os.getpid()).startswith("it is in uninterruptible sleep")


# ---- deadlines


def test_one_that_does_not_leave_in_time_is_killed(make: MakeWorld) -> None:
    world = make(graceful_timeout=5.0)
    world.start(declaration("a"))
    (old,) = world.living()
    world.say(old, event="replace", reason="")
    world.ready(*world.booting())
    world.sleep(6.5)
    assert world.children.signals == []
    world.sleep(1)
    assert world.children.signals == [(old, signal.SIGUSR2)], "its stacks first"
    world.sleep(DUMP_SECONDS)
    assert world.killed() == [old]
    assert world.fleet.exits[-1].reason == "did not leave within 5 s: killed by signal 9 (SIGKILL)"


def test_a_quick_stop_tells_the_time_that_it_gave(make: MakeWorld) -> None:
    world = make(graceful_timeout=30.0)
    world.start(declaration("a"))
    (process,) = world.living()
    world.instance.stop(quick=True)
    world.sleep(KILL_MARGIN + 0.5)
    assert world.killed() == [process]
    assert world.fleet.exits[-1].reason == "did not leave within 2 s: killed by signal 9 (SIGKILL)"


def test_a_second_request_to_stop_tells_the_time_that_it_gave(make: MakeWorld) -> None:
    world = make(graceful_timeout=30.0)
    world.start(declaration("a"))
    (process,) = world.living()
    world.instance.stop()
    world.sleep(10)
    assert world.killed() == []
    world.instance.stop()
    world.sleep(KILL_MARGIN + 0.5)
    assert world.killed() == [process]
    assert world.fleet.exits[-1].reason == "did not leave within 2 s: killed by signal 9 (SIGKILL)"


def test_one_that_cannot_even_be_killed_does_not_make_the_arbiter_spin(make: MakeWorld) -> None:
    """Uninterruptible sleep, as on a dead NFS server."""
    world = make(graceful_timeout=1.0)
    world.start(declaration("a"))
    (old,) = world.living()
    world.children.make_deathless(old)
    world.say(old, event="replace", reason="")
    world.ready(*world.booting())
    world.sleep(20)
    assert 3 <= len(world.killed()) <= 15
    assert world.fleet.next_deadline(lambda _: True) > world.now
    assert world.serving() == {"a#0": 1}


@pytest.mark.parametrize("timeout", [0.1, 3.0])
def test_a_hanging_loop_is_dumped_then_killed_then_replaced(
    make: MakeWorld, timeout: float
) -> None:
    world = make(timeout=timeout)
    world.start(declaration("a", count=2))
    hanging, well = world.living()
    world.sleep(60)
    assert world.children.signals == []
    world.hanging = frozenset({hanging})
    world.sleep(timeout + 2.5)
    assert world.children.signals[0] == (hanging, signal.SIGUSR2)
    world.sleep(DUMP_SECONDS + 0.5)
    assert world.children.signals[1:] == [(hanging, signal.SIGKILL)]
    world.sleep(1)
    world.ready(*world.booting())
    assert well in world.living()
    assert len(world.serving()) == 2
    reason = world.fleet.exits[-1].reason
    assert reason == f"its event loop did not turn for {timeout:g} s: killed by signal 9 (SIGKILL)"


def test_one_that_was_late_to_boot_is_found_when_it_hangs(make: MakeWorld) -> None:
    world = make(timeout=3.0, boot_timeout=5.0)
    world.start(declaration("a"))
    world.die(*world.living(), 9)
    world.sleep(0.5)
    (process,) = world.booting()
    world.sleep(5.5)
    assert world.children.signals == [(process, signal.SIGUSR2)]
    world.ready(process)  # just before it would have been killed
    world.hanging = frozenset([process])
    world.sleep(8)
    numbers = [number for each, number in world.children.signals if each is process]
    assert numbers == [signal.SIGUSR2, signal.SIGUSR2, signal.SIGKILL]


@pytest.mark.parametrize(("age", "hangs"), [(0.99, False), (1.05, False), (1.2, True)])
def test_a_beat_may_be_as_old_as_the_time_between_two(
    make: MakeWorld, age: float, hangs: bool
) -> None:
    """Else `--timeout 0.1`, or 1, would kill every process that is well."""
    world = make(timeout=0.1)
    world.start(declaration("a"))
    world.living()[0].row[0] = int((world.now - age) * 1e9)
    watchdog.check_beats(world.fleet.children, world.now)
    assert bool(world.children.signals) == hangs


def test_without_timeout_a_hanging_loop_is_left_alone(make: MakeWorld) -> None:
    world = make(timeout=0.0)
    world.start(declaration("a"))
    world.hanging = frozenset(world.living())
    world.sleep(600)
    assert world.children.signals == []


def test_one_that_boots_or_retires_is_not_judged_by_its_beat(make: MakeWorld) -> None:
    world = make(timeout=2.0, boot_timeout=60.0, graceful_timeout=60.0)
    world.start(declaration("a"))
    (old,) = world.living()
    world.say(old, event="replace", reason="")
    (new,) = world.booting()
    world.hanging = frozenset({old, new})
    old.row[0] = int((world.now + 30) * 1e9)
    world.sleep(20)
    world.ready(new)
    world.hanging = frozenset({old})
    world.sleep(20)
    assert world.children.signals == []


def test_a_quick_stop_asks_no_process_for_stacks(make: MakeWorld) -> None:
    world = make(graceful_timeout=5.0)
    world.start(declaration("a"))
    world.signal(signal.SIGINT)
    world.sleep(2.5)
    assert world.instance.state == "stopped"
    assert [number for _, number in world.children.signals] == [signal.SIGKILL]


@pytest.mark.parametrize("what", ["stopped", "disk-sleep", "running"])
def test_the_log_says_when_no_stacks_are_to_be_expected(
    make: MakeWorld, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Found:
        def __init__(self, pid: int) -> None:
            assert pid >= 1_000_000

        def status(self) -> str:
            return what

    world = make(timeout=2.0)
    world.start(declaration("a"))
    monkeypatch.setattr(watchdog.psutil, "Process", Found)
    world.hanging = frozenset(world.living())
    world.sleep(4)
    (line,) = (line for line in caplog.messages if "hangs" in line)
    expected = {
        "stopped": "it is stopped (SIGSTOP,",
        "disk-sleep": "uninterruptible",
        "running": "its stacks follow",
    }
    assert expected[what] in line


# ---- standstills


@pytest.mark.parametrize("still", [2.0, 4.0, 3600.0])
def test_after_a_standstill_the_processes_get_time_to_wake_up(
    make: MakeWorld, still: float
) -> None:
    """SIGSTOP for the whole group, a frozen container: every beat is old, every deadline has
    passed."""
    world = make(timeout=2.0, boot_timeout=10.0)
    world.start(declaration("a", count=2))
    first, second = world.living()
    world.say(first, event="replace", reason="")
    world.arbiter.wait()
    world.now += still
    world.arbiter.wait()
    world.run()
    assert world.children.signals == []
    world.sleep(5)
    assert world.children.signals == []
    world.ready(*world.booting())
    assert second in world.living()


def test_a_process_that_hangs_through_a_standstill_is_found_after_it(make: MakeWorld) -> None:
    world = make(timeout=2.0)
    world.start(declaration("a"))
    world.hanging = frozenset(world.living())
    world.arbiter.wait()
    world.now += 100
    world.arbiter.wait()
    world.run()
    assert world.children.signals == []
    world.sleep(2)
    assert world.children.signals[0][1] == signal.SIGUSR2


def test_an_overloaded_machine_does_not_hide_one_that_hangs(make: MakeWorld) -> None:
    world = make(timeout=2.0)
    world.start(declaration("a"))
    for _ in range(5):
        world.arbiter.wait()
        world.now += 2.0
        world.arbiter.wait()
        world.run()
    assert world.children.signals[0][1] == signal.SIGUSR2


def test_a_message_during_which_the_machine_stood_still_is_no_reason_to_kill(
    make: MakeWorld,
) -> None:
    world = make(timeout=2.0, boot_timeout=10.0)
    world.start(declaration("a", count=2))

    def stand_still() -> None:
        world.now += 3600

    world.say(world.living()[0], event="replace", reason="")
    world.arbiter.messages.append(stand_still)
    world.run()
    assert world.children.signals == []


def test_only_what_comes_after_the_deadline_is_a_standstill() -> None:
    one = watchdog.Standstill(100.0)
    assert one.look(200.0, due=199.9) == 0.0, "the arbiter slept: there was nothing to do"
    assert one.look(205.0, due=201.0) == 4.0
    assert one.look(300.0) == 0.0, "not twice in a tick"
    one.rearm()
    assert one.look(310.0) == 10.0
