"""The arbiter's turn: deaths, signals, deadlines, requests; with invented pids and an invented
clock."""

from __future__ import annotations

import gc
import logging
import os
import selectors
import signal
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from world import FakeCall, World, declaration

from gworker.arbiter import CHORES_SECONDS, SIGNALS
from gworker.ipc.channel import Channel
from gworker.ipc.scoreboard import Column
from gworker.logs import nonblocking, setup
from gworker.master import watchdog
from gworker.master.children import KILL_MARGIN, Children
from gworker.master.control_commands import LOOK_SECONDS, MOST_REPORT_SECONDS, REPORT_SECONDS
from gworker.master.slots import BACKOFF_MOST, Process, Role
from gworker.master.watchdog import DUMP_SECONDS

MakeWorld = Callable[..., World]


def ask(world: World, command: str, **arguments: Any) -> FakeCall:
    call = FakeCall(command, **arguments)
    world.arbiter._on_call(call)  # type: ignore[arg-type]
    world.run()
    return call


def killed(world: World) -> list[Process]:
    return [process for process, number in world.children.signals if number == signal.SIGKILL]


# ---- deaths


def test_a_dead_process_is_replaced_in_its_slot(world: World) -> None:
    world.start(declaration("a", count=2))
    first, second = world.living()
    world.sleep(10)
    world.die(first, 9)
    (replacement,) = world.booting()
    assert (replacement.label, replacement.generation) == ("a#0", 1)
    (row,) = world.fleet.exits.rows()
    assert (row["worker"], row["id"], row["pid"]) == ("a", 0, first.pid)
    assert row["reason"] == "killed by signal 9 (SIGKILL)"
    assert world.told(second) == []


def test_one_that_exits_by_itself_is_replaced_whatever_its_code(world: World) -> None:
    """Codes mean nothing: gunicorn halts the whole server on 3 and 4."""
    world.start(declaration("a"))
    for code in (0, 1, 3, 4, 255):
        world.sleep(10)
        world.die(*world.living(), code << 8)
        world.ready(*world.booting())
        assert world.fleet.exits.rows()[-1]["reason"] == f"exited {code}"
    assert world.arbiter.state == "running"


def test_a_crash_loop_backs_off_and_never_ends_the_instance(world: World) -> None:
    world.start(declaration("a"), declaration("b"))
    at = []
    for _ in range(12):
        world.die(one(world, "a"), 3 << 8)
        while not world.booting():
            world.sleep(0.1)
        at.append(world.now)
        world.ready(*world.booting())
    gaps = [after - before for before, after in pairwise(at)]
    assert gaps[0] < 1
    assert gaps[-1] == pytest.approx(BACKOFF_MOST, abs=0.2)
    assert world.arbiter.state == "running"
    assert "b#0" in world.serving()


def one(world: World, name: str) -> Process:
    (process,) = (each for each in world.living() if each.worker == name)
    return process


def test_a_boot_that_fails_after_the_start_is_tried_for_ever(world: World) -> None:
    world.start(declaration("a"))
    world.die(*world.living(), 9)
    for _ in range(20):
        world.sleep(BACKOFF_MOST)
        world.fail(*world.booting())
    assert world.arbiter.state == "running"
    world.sleep(BACKOFF_MOST)
    world.ready(*world.booting())
    assert world.serving() == {"a#0": 1}


def test_a_fork_that_is_refused_is_tried_again(world: World) -> None:
    world.start(declaration("a", count=2))
    world.sleep(10)
    world.kernel.refused = 3
    world.die(world.living()[0], 9)
    assert len(world.serving()) == 1
    world.sleep(5)
    world.ready(*world.booting())
    assert len(world.serving()) == 2
    assert world.kernel.refused == 0


def test_a_full_scoreboard_is_a_fork_that_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start(declaration("a"))
    taken = []
    children = world.fleet.children
    while children.scoreboard._free:
        taken.append(children.scoreboard.take())
    monkeypatch.setattr(world.kernel, "fork", lambda _: pytest.fail("no row, no child"))
    with pytest.raises(OSError, match="scoreboard is full"):
        children.fork(Role.WORKER, 1, world.arbiter.settings, lambda *_: 0, ("a", 0))


def test_a_refused_fork_leaks_nothing(world: World) -> None:
    world.start(declaration("a"))
    children, world.kernel.refused = world.fleet.children, 1
    rows, descriptors = len(children.scoreboard._free), len(os.listdir("/proc/self/fd"))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(OSError, match="temporarily unavailable"):
        children.fork(Role.WORKER, 1, world.arbiter.settings, lambda *_: 0, ("a", 0))
    assert len(children.scoreboard._free) == rows
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def test_orphans_are_reaped_and_are_none_of_ours() -> None:
    """As process 1, or as a subreaper, the arbiter inherits them; gunicorn halted on those that
    exit 3."""
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with closing(selectors.DefaultSelector()) as selector:
        children = Children(selector, pytest.fail, lambda: None, frozenset())
        assert children.reap() == []
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_rows_and_channels_of_the_dead_are_given_back(world: World) -> None:
    world.start(declaration("a"))
    gc.collect()  # what other tests have left is not to go in between
    free, descriptors = len(world.fleet.children.scoreboard._free), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        world.sleep(10)
        world.die(*world.living(), 9)
        world.ready(*world.booting())
    assert len(world.fleet.children.scoreboard._free) == free
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_what_a_process_said_before_it_died_is_heard_first(world: World) -> None:
    world.begin()
    world.declare(declaration("a"))
    (process,) = world.booting()
    world.children.ends[process.pid].send(
        {"event": "failed", "reason": "no database", "traceback": ""}
    )
    world.die(process, 9)
    assert world.launch.words[0][0] == "failed"
    assert "no database" in world.launch.words[0][1]


def test_ready_of_a_process_that_is_dead_by_then_counts_for_nothing(world: World) -> None:
    world.begin()
    world.declare(declaration("a"))
    (process,) = world.booting()
    world.children.ends[process.pid].send({"event": "ready"})
    world.die(process, 9)
    assert world.launch.words[0][0] == "failed"
    assert world.fleet.exits.rows()[-1]["reason"] == "killed by signal 9 (SIGKILL)"


def test_a_worker_called_probe_is_a_worker(world: World) -> None:
    world.start(declaration("probe"))
    world.sleep(10)
    world.die(*world.living(), 9)
    world.ready(*world.booting())
    assert world.serving() == {"probe#0": 1}
    assert len(world.fleet.exits.rows()) == 1


@pytest.mark.parametrize(
    "word",
    [
        {"event": "nonsense"},
        {},
        {"event": "failed", "reason": 3, "traceback": ""},
        {"event": "failed"},
        {"event": "connections", "request": "x"},
        {"event": "declared", "workers": "x"},
        {"event": ["ready"]},
    ],
    ids=str,
)
def test_a_process_that_talks_nonsense_is_killed_and_nobody_else(
    world: World, word: dict[str, Any]
) -> None:
    """Its code is not ours, and may run as another user: it must not be able to end the arbiter."""
    world.start(declaration("a", count=2))
    first, second = world.living()
    world.sleep(10)
    world.say(first, **word)
    assert killed(world) == [first]
    assert "makes no sense" in world.fleet.exits.rows()[-1]["reason"]
    world.ready(*world.booting())
    assert second in world.living()
    assert len(world.serving()) == 2


def test_a_worker_process_cannot_declare(world: World) -> None:
    world.start(declaration("a"))
    world.reload()
    world.say(*world.living(), event="declared", workers=[declaration("evil").to_dict()])
    world.declare(declaration("a"))
    world.finish_reload()
    assert world.serving() == {"a#0": 2}


@pytest.mark.parametrize("workers", [[3], [{}], [{"name": "a"}], [{"name": "a", "surprise": 1}]])
def test_a_probe_that_declares_nonsense_is_a_refused_reload(
    world: World, workers: list[object]
) -> None:
    world.start(declaration("a"))
    call = world.reload()
    world.say(world.probe, event="declared", workers=workers)
    assert call.exit == 1
    assert world.serving() == {"a#0": 1}


def test_an_answer_to_nobody_leaks_no_descriptor(world: World) -> None:
    world.start(declaration("a"))
    (process,) = world.living()
    before = len(os.listdir("/proc/self/fd"))
    for event in ({"event": "connections", "request": 77}, {"event": "replace", "reason": ""}):
        world.children.ends[process.pid].send(event, [0, 1, 2])
    world.run()
    world.ready(*world.booting())
    world.die(process)
    assert len(os.listdir("/proc/self/fd")) <= before


# ---- what the arbiter ends


def test_a_process_that_asks_to_be_replaced_gets_a_successor_first(world: World) -> None:
    world.start(declaration("a"))
    (old,) = world.living()
    world.say(old, event="replace", reason="")
    (new,) = world.booting()
    assert world.told(old) == []
    world.ready(new)
    assert world.told(old)[0]["do"] == "retire"
    world.die(old)
    assert world.serving() == {"a#0": 1}
    assert world.fleet.exits.rows() == []


def test_a_successor_that_cannot_start_is_tried_again_and_the_old_one_goes_on(world: World) -> None:
    world.start(declaration("a"))
    (old,) = world.living()
    world.say(old, event="replace", reason="")
    for _ in range(3):
        world.fail(*world.booting())
        assert [word["do"] for word in world.told(old)] == ["serve_on"]
        world.sleep(5)
    world.ready(*world.booting())
    assert world.told(old)[0]["do"] == "retire"


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
    assert killed(world) == [old]
    assert (
        world.fleet.exits.rows()[-1]["reason"]
        == "did not leave within 5 s: killed by signal 9 (SIGKILL)"
    )


def test_a_quick_stop_tells_the_time_that_it_gave(make: MakeWorld) -> None:
    world = make(graceful_timeout=30.0)
    world.start(declaration("a"))
    (process,) = world.living()
    world.arbiter.stop(quick=True)
    world.sleep(KILL_MARGIN + 0.5)
    assert killed(world) == [process]
    assert (
        world.fleet.exits.rows()[-1]["reason"]
        == "did not leave within 2 s: killed by signal 9 (SIGKILL)"
    )


def test_a_second_request_to_stop_tells_the_time_that_it_gave(make: MakeWorld) -> None:
    world = make(graceful_timeout=30.0)
    world.start(declaration("a"))
    (process,) = world.living()
    world.arbiter.stop()
    world.sleep(10)
    assert killed(world) == []
    world.arbiter.stop()
    world.sleep(KILL_MARGIN + 0.5)
    assert killed(world) == [process]
    assert (
        world.fleet.exits.rows()[-1]["reason"]
        == "did not leave within 2 s: killed by signal 9 (SIGKILL)"
    )


def test_one_that_cannot_even_be_killed_does_not_make_the_arbiter_spin(make: MakeWorld) -> None:
    """Uninterruptible sleep, as on a dead NFS server."""
    world = make(graceful_timeout=1.0)
    world.start(declaration("a"))
    (old,) = world.living()
    world.children.make_deathless(old)
    world.say(old, event="replace", reason="")
    world.ready(*world.booting())
    world.sleep(20)
    assert 3 <= len(killed(world)) <= 15
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
    reason = world.fleet.exits.rows()[-1]["reason"]
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
    world.arbiter._wait()
    world.now += still
    world.arbiter._wait()
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
    world.arbiter._wait()
    world.now += 100
    world.arbiter._wait()
    world.run()
    assert world.children.signals == []
    world.sleep(2)
    assert world.children.signals[0][1] == signal.SIGUSR2


def test_an_overloaded_machine_does_not_hide_one_that_hangs(make: MakeWorld) -> None:
    world = make(timeout=2.0)
    world.start(declaration("a"))
    for _ in range(5):
        world.arbiter._wait()
        world.now += 2.0
        world.arbiter._wait()
        world.run()
    assert world.children.signals[0][1] == signal.SIGUSR2


# ---- messages that never end


def talk_for_ever(world: World) -> None:
    """Two messages wait in every turn: processes that do nothing but talk."""

    def again() -> None:
        world.arbiter._messages.append(again)

    world.arbiter._messages += [again, again]


def pass_time_in_turns(world: World, seconds: float) -> None:
    """One turn every 50 ms, with no look at anything between them."""
    end = world.now + seconds
    while world.now < end:
        world.now += 0.05
        for process in world.living():
            if process not in world.hanging:
                process.row[Column.BEAT] = int(world.now * 1e9)
        world.arbiter.turn()


def test_a_hung_process_is_killed_and_replaced_whatever_waits(make: MakeWorld) -> None:
    world = make(timeout=2.0)
    world.start(declaration("a", count=2))
    hanging = world.living()[1]
    world.hanging = frozenset({hanging})
    talk_for_ever(world)
    pass_time_in_turns(world, 3.5)
    assert world.children.signals == [(hanging, signal.SIGUSR2)]
    pass_time_in_turns(world, DUMP_SECONDS + 0.2)
    assert killed(world) == [hanging]
    (replacement,) = world.booting()
    assert replacement.label == "a#1"


def test_successors_are_started_whatever_waits(world: World) -> None:
    world.start(declaration("a"))
    world.fleet.slots["a", 0].wants_successor = True
    talk_for_ever(world)
    pass_time_in_turns(world, CHORES_SECONDS)
    assert len(world.booting()) == 1


def test_a_request_that_waits_for_a_process_ends_in_time_whatever_waits(world: World) -> None:
    world.start(declaration("a"))
    call = FakeCall("connections")
    world.arbiter._on_call(call)  # type: ignore[arg-type]
    world.hanging = frozenset(world.living())
    talk_for_ever(world)
    pass_time_in_turns(world, REPORT_SECONDS + 0.2)
    assert call.exit == 0


def test_an_upgrade_waits_for_all_messages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exec would lose them."""
    world.start(declaration("a"))
    talk_for_ever(world)
    monkeypatch.setattr(world.arbiter.upgrade, "proceed", lambda: pytest.fail("messages wait"))
    pass_time_in_turns(world, 1.0)


def test_a_message_during_which_the_machine_stood_still_is_no_reason_to_kill(
    make: MakeWorld,
) -> None:
    world = make(timeout=2.0, boot_timeout=10.0)
    world.start(declaration("a", count=2))

    def stand_still() -> None:
        world.now += 3600

    world.say(world.living()[0], event="replace", reason="")
    world.arbiter._messages.append(stand_still)
    world.run()
    assert world.children.signals == []


def test_a_program_that_a_dead_process_has_left_cannot_talk_on_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have inherited the process's end of the channel."""
    world.start(declaration("a"))
    (process,) = world.living()
    heard = 0

    def receive(_: Channel) -> tuple[dict[str, str], list[int]]:
        nonlocal heard
        heard += 1
        assert heard < 100_000
        return {"event": "replace", "reason": ""}, []

    monkeypatch.setattr(Channel, "receive", receive)
    world.kernel.dead.append((process.pid, 9))
    world.arbiter.turn()
    assert process not in world.living()


# ---- signals


def test_every_signal_has_a_meaning_and_none_that_python_needs_is_taken(world: World) -> None:
    assert set(SIGNALS.values()) == set(world.arbiter._on_signal)
    assert signal.SIGUSR2 in SIGNALS, (
        "its default action would kill the arbiter and leave the workers"
    )


def test_hup_reloads(world: World) -> None:
    world.start(declaration("a"))
    world.signal(signal.SIGHUP)
    assert world.arbiter.state == "reloading"
    world.declare(declaration("a"))
    world.finish_reload()
    assert world.serving() == {"a#0": 2}


def test_a_storm_of_hups_is_one_reload_and_one_more(world: World) -> None:
    world.start(declaration("a"))
    for _ in range(50):
        world.signal(signal.SIGHUP)
    for _ in range(2):
        world.declare(declaration("a"))
        world.finish_reload()
    assert world.arbiter.state == "running"
    assert world.serving() == {"a#0": 3}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_stopping(world: World, number: signal.Signals) -> None:
    world.start(declaration("a", count=2))
    world.signal(number)
    expected = "retire" if number == signal.SIGTERM else "quit"
    assert [world.told(each)[0]["do"] for each in world.living()] == [expected] * 2
    assert world.arbiter.state == "stopping"
    for process in world.living():
        world.die(process)
    assert world.arbiter.state == "stopped"
    assert world.fleet.exits.rows() == []


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_second_signal_cuts_the_grace_short(make: MakeWorld, second: signal.Signals) -> None:
    world = make(graceful_timeout=1000.0)
    world.start(declaration("a"))
    (process,) = world.living()
    world.signal(signal.SIGTERM)
    world.signal(second)
    assert [each["do"] for each in world.told(process)] == ["retire", "quit"]
    world.sleep(3)
    assert killed(world) == [process]
    assert world.arbiter.state == "stopped"


def test_a_graceful_stop_ends_with_a_kill(make: MakeWorld) -> None:
    world = make(graceful_timeout=5.0)
    world.start(declaration("a", count=2))
    world.signal(signal.SIGTERM)
    world.sleep(6.5 + DUMP_SECONDS)
    assert world.arbiter.state == "stopping"
    world.sleep(1)
    assert world.arbiter.state == "stopped"


def test_a_quick_stop_asks_nobody_for_stacks(make: MakeWorld) -> None:
    world = make(graceful_timeout=5.0)
    world.start(declaration("a"))
    world.signal(signal.SIGINT)
    world.sleep(2.5)
    assert world.arbiter.state == "stopped"
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


def test_a_death_is_logged_with_the_last_row(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.start(declaration("a"))
    (process,) = world.living()
    process.row[Column.CONNECTIONS], process.row[Column.REQUESTS] = 12, 345
    world.sleep(2.5)
    world.die(process, 11)
    ended = (
        "killed by signal 11 (SIGSEGV), after 2.5 s in service, with 12 connections, 345 "
        "requests served"
    )
    assert f"a#0 (pid {process.pid}) {ended}" in caplog.messages
    assert world.fleet.exits.rows()[-1]["reason"] == "killed by signal 11 (SIGSEGV)"


def test_a_death_is_logged_before_the_next_try(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.start(declaration("a"))
    (process,) = world.living()
    world.die(process, 3 << 8)
    died, again = (line for line in caplog.messages if "exited 3" in line or "again" in line)
    assert died.startswith(f"a#0 (pid {process.pid}) exited 3")
    assert again == "a#0 is started again in 0.1 s"


def test_the_kernel_is_named_when_it_has_killed_for_memory(world: World) -> None:
    kills = [False, True]
    world.fleet.oom = SimpleNamespace(take=kills.pop, poll=lambda now: None)  # type: ignore[assignment]
    world.start(declaration("a", count=2))
    first, second = world.living()
    world.die(first, 9)
    assert world.fleet.slots["a", 0].reason == "out of memory: killed by the kernel"
    world.die(second, 9)
    assert [row["reason"] for row in world.fleet.exits.rows()] == [
        "out of memory: killed by the kernel",
        "killed by signal 9 (SIGKILL)",
    ]


@pytest.mark.parametrize("status", [0, 11, 137 << 8])
def test_only_sigkill_that_is_not_ours_may_be_the_kernel(make: MakeWorld, status: int) -> None:
    world = make(timeout=1.0)
    world.fleet.oom = SimpleNamespace(take=lambda: pytest.fail("asked"), poll=lambda now: None)  # type: ignore[assignment]
    world.start(declaration("a", count=2))
    world.die(world.living()[0], status)
    world.hanging = frozenset(world.living())
    world.sleep(5)
    assert "did not turn" in world.fleet.exits.rows()[-1]["reason"]


def test_who_dies_while_stopping_is_not_replaced(world: World) -> None:
    world.start(declaration("a", count=2))
    first, second = world.living()
    world.signal(signal.SIGTERM)
    world.die(first, 9)
    world.sleep(5)
    assert world.living() == [second]


def test_who_asks_for_a_successor_while_stopping_gets_none(world: World) -> None:
    """systemd sends TERM to the whole control group."""
    world.start(declaration("a"))
    (process,) = world.living()
    world.signal(signal.SIGTERM)
    world.say(process, event="replace", reason="")
    world.sleep(1)
    assert world.living() == [process]


def test_ttin_and_ttou_change_every_worker_and_stop_at_one(world: World) -> None:
    world.start(declaration("a"), declaration("b", count=2))
    world.signal(signal.SIGTTIN)
    world.ready(*world.booting())
    assert sorted(world.serving()) == ["a#0", "a#1", "b#0", "b#1", "b#2"]
    for expected in (["a#0", "b#0", "b#1"], ["a#0", "b#0"], ["a#0", "b#0"]):
        world.signal(signal.SIGTTOU)
        for process in world.retiring():
            assert "retire" in [word["do"] for word in world.told(process)]
            world.die(process)
        assert sorted(world.serving()) == expected
    assert world.fleet.exits.rows() == []
    assert sorted(world.fleet.slots) == [("a", 0), ("b", 0)]


def test_a_slot_that_is_wanted_again_while_its_process_leaves_is_filled_at_once(
    world: World,
) -> None:
    world.start(declaration("a", count=2))
    leaving = world.living()[1]
    world.signal(signal.SIGTTOU)
    world.signal(signal.SIGTTIN)
    (new,) = world.booting()
    assert new.label == leaving.label == "a#1"
    world.ready(new)
    world.die(leaving)
    assert sorted(world.serving()) == ["a#0", "a#1"]
    assert world.fleet.exits.rows() == []


def test_a_booting_process_that_is_not_needed_any_more_is_killed_quietly(world: World) -> None:
    world.start(declaration("a"))
    world.signal(signal.SIGTTIN)
    (booting,) = world.booting()
    world.signal(signal.SIGTTOU)
    assert killed(world) == [booting]
    assert world.fleet.exits.rows() == []
    assert sorted(world.fleet.slots) == [("a", 0)]


def test_signals_at_the_start_wait_for_its_end(world: World) -> None:
    world.begin()
    world.signal(signal.SIGTTIN)
    world.declare(declaration("a"))
    world.ready(*world.booting())
    world.ready(*world.booting())
    assert sorted(world.serving()) == ["a#0", "a#1"]


def test_usr2_tries_the_new_code(world: World) -> None:
    world.start(declaration("a"))
    world.signal(signal.SIGUSR2)
    assert [
        each.label for each in world.children.by_pid.values() if each.role is not Role.WORKER
    ] == ["upgrade"]
    assert world.serving() == {"a#0": 1}


def test_usr1_gives_every_process_the_new_files(make: MakeWorld, tmp_path: Path) -> None:
    descriptor = nonblocking.open_path(str(tmp_path / "log"))
    world = make(
        log_file=str(tmp_path / "log"), stdout_file=None, outputs=setup.Outputs(descriptor)
    )
    world.start(declaration("a", count=2))
    (tmp_path / "log").rename(tmp_path / "log.1")
    world.signal(signal.SIGUSR1)
    for process in world.living():
        message, (copy,) = world.children.ends[process.pid].receive()
        assert message == {"do": "reopen", "targets": [descriptor]}
        os.write(copy, b"from a worker\n")
        os.close(copy)
    os.close(descriptor)
    assert (tmp_path / "log").read_text().count("from a worker\n") == 2


def test_usr1_with_a_directory_that_has_gone_changes_nothing(
    make: MakeWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(log_file=str(tmp_path / "gone" / "log"))
    world.start(declaration("a"))
    world.signal(signal.SIGUSR1)
    assert "cannot reopen" in caplog.text
    assert world.told(*world.living()) == []


# ---- requests


def test_an_unknown_command(world: World) -> None:
    world.start(declaration("a"))
    call = ask(world, "dance")
    assert (call.exit, call.extra) == (1, {"error": "unknown command 'dance'"})


def test_a_fault_of_ours_in_a_command_does_not_end_the_service(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.start(declaration("a"))
    monkeypatch.setattr(world.arbiter, "sampler", None)
    call = ask(world, "status")
    assert call.exit == 1
    assert "AttributeError" in call.extra["error"]
    assert "Traceback" in caplog.text
    assert world.serving() == {"a#0": 1}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"worker": "x", "count": 2}, "there is no Worker 'x'; there are a"),
        ({"worker": "a", "count": 0}, "a: 0 processes; expected 1 to 1024"),
        ({"worker": "a"}, "scale: expected a Worker's name and a number"),
        ({"worker": ["a"], "count": 1}, "scale: worker=['a'] is not a Worker's name"),
        ({"worker": "a", "count": True}, "scale: count=True is not a whole number"),
        ({"worker": "a", "count": 2.0}, "scale: count=2.0 is not a whole number"),
        ({"worker": "a", "count": "2"}, "scale: count='2' is not a whole number"),
    ],
)
def test_what_cannot_be_scaled(world: World, arguments: dict[str, Any], error: str) -> None:
    world.start(declaration("a"))
    call = ask(world, "scale", **arguments)
    assert (call.exit, call.extra) == (1, {"error": error})
    assert world.serving() == {"a#0": 1}


@pytest.mark.parametrize(
    ("command", "arguments", "error"),
    [
        ("stop", {"quick": 1}, "stop: quick=1 is not true or false"),
        ("stop", {"quickly": True}, "stop: unknown argument 'quickly'; there are quick"),
        ("reload", {"wait": "no"}, "reload: wait='no' is not true or false"),
        ("health", {"worker": 5}, "health: worker=5 is not a Worker's name"),
        ("connections", {"worker": {}}, "connections: worker={} is not a Worker's name"),
        ("connections", {"limit": True}, "connections: limit=True is not a whole number"),
        ("status", {"worker": "a"}, "status: unknown argument 'worker'; there are none"),
    ],
)
def test_arguments_of_commands_have_their_types(
    world: World, command: str, arguments: dict[str, Any], error: str
) -> None:
    world.start(declaration("a"))
    call = ask(world, command, **arguments)
    assert (call.exit, call.extra) == (1, {"error": error})
    assert world.arbiter.state == "running"
    assert world.serving() == {"a#0": 1}


def test_scaling_opens_and_closes_listeners_of_reuse_port(world: World) -> None:
    world.start(declaration("a", listen="tcp://127.0.0.1:0", reuse_port=True))
    assert ask(world, "scale", worker="a", count=3).exit == 0
    world.ready(*world.booting())
    assert len(world.fleet.listeners) == 3
    assert len({listener.port for listener in world.fleet.listeners.all()}) == 1
    ask(world, "scale", worker="a", count=1)
    # Its queue is its own, so it is taken before it closes.
    told = [world.told(each)[0] for each in world.retiring()]
    assert [(each["code"], each["drain"]) for each in told] == [(1012, True)] * 2
    assert len(world.fleet.listeners) == 1


def test_scaling_down_a_shared_listener_leaves_its_queue_to_the_others(world: World) -> None:
    world.start(declaration("a", listen="tcp://127.0.0.1:0", count=2))
    ask(world, "scale", worker="a", count=1)
    told = [world.told(each)[0] for each in world.retiring()]
    assert [(each["code"], each["drain"]) for each in told] == [(1012, False)]
    assert len(world.fleet.listeners) == 1


def answered(world: World, process: Process) -> None:
    """A process answers with some file."""
    (request,) = world.told(process)
    assert request["do"] == "connections"
    reader, writer = os.pipe()
    world.children.ends[process.pid].send(
        {"event": "connections", "request": request["request"]}, [reader]
    )
    os.close(reader)
    os.close(writer)
    world.run()


def test_connections_are_gathered_from_all_processes(world: World) -> None:
    world.start(declaration("a", count=2), declaration("b"))
    call = ask(world, "connections")
    for process in world.living():
        assert call.exit is None
        answered(world, process)
    assert (call.exit, call.extra) == (0, {"missing": []})
    assert [reply["pid"] for reply in call.replies] == [each.pid for each in world.living()]


def test_connections_of_one_worker(world: World) -> None:
    world.start(declaration("a"), declaration("b"))
    ask(world, "connections", worker="b")
    assert world.told(one(world, "a")) == []
    assert len(world.told(one(world, "b"))) == 1
    assert ask(world, "connections", worker="c").extra == {
        "error": "there is no Worker 'c'; there are a, b"
    }


def test_a_process_that_does_not_answer_is_named_as_missing(world: World) -> None:
    world.start(declaration("a", count=2))
    stuck, well = world.living()
    world.hanging = frozenset([stuck])
    call = ask(world, "connections")
    answered(world, well)
    world.sleep(REPORT_SECONDS + LOOK_SECONDS)
    assert (call.exit, call.extra) == (0, {"missing": [stuck.pid]})
    assert [reply["pid"] for reply in call.replies] == [well.pid]
    world.say(stuck, event="connections", request=1)
    assert stuck in world.living(), "a late answer is no nonsense"


def test_a_process_that_is_at_work_on_its_list_is_waited_for(world: World) -> None:
    world.start(declaration("a", count=2))
    slow, endless = world.living()
    call = ask(world, "connections")
    world.sleep(5 * REPORT_SECONDS)
    assert call.exit is None
    answered(world, slow)
    world.sleep(MOST_REPORT_SECONDS)
    assert (call.exit, call.extra) == (0, {"missing": [endless.pid]})


def test_a_process_that_could_not_make_its_list_is_missing(world: World) -> None:
    world.start(declaration("a"))
    call = ask(world, "connections")
    world.say(*world.living(), event="connections", request=1)
    assert (call.exit, call.extra) == (0, {"missing": [world.living()[0].pid]})


def test_processes_are_told_how_many_are_wanted(world: World) -> None:
    world.start(declaration("a"))
    ask(world, "connections", limit=20)
    assert world.told(*world.living()) == [{"do": "connections", "request": 1, "limit": 20}]
    assert "less than nothing" in ask(world, "connections", limit=-1).extra["error"]


def test_nobody_to_ask(world: World) -> None:
    world.begin()
    call = ask(world, "connections")
    assert (call.exit, call.extra) == (0, {"missing": []})


def test_commands_that_wait_are_told_in_time_that_the_arbiter_is_alive(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    monkeypatch.setattr(world.arbiter._control, "pulse", told.append)
    world.start(declaration("a"))
    world.sleep(10)
    world.signal(signal.SIGTERM)
    world.sleep(10)
    assert max(after - before for before, after in pairwise([1000.0, *told, world.now])) <= 1.5


def test_who_and_stop(world: World) -> None:
    world.start(declaration("a"))
    who = ask(world, "who").replies[0]["who"]
    assert (who["name"], who["target"], who["workers"], who["generation"]) == ("test", "app", 1, 1)
    stop = ask(world, "stop")
    assert stop.replies[0] == {"timeout": 30.0}
    assert stop.exit is None, "its end is the end of the connection"
    assert world.arbiter.state == "stopping"


def test_when_idle_the_arbiter_sleeps_a_second_and_no_less(world: World) -> None:
    world.start(declaration("a", count=3))
    world.sleep(2)
    world.run()
    due = min(
        world.arbiter._next_tick,
        world.fleet.next_deadline(lambda _: True),
        world.arbiter.reports.next_deadline(),
    )
    assert due - world.now > 0.4


def test_the_log_says_what_was_received(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.start(declaration("a"))
    with caplog.at_level(logging.INFO, logger="gworker"):
        world.signal(signal.SIGHUP)
        world.signal(signal.SIGCHLD)
    assert "received SIGHUP" in caplog.text
    assert "SIGCHLD" not in caplog.text
