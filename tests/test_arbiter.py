"""The arbiter's turn: deaths, signals, deadlines, requests; with invented pids and an invented
clock."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from world import FakeCall, World, declaration

from gworker.arbiter import CHORES_SECONDS, SIGNALS
from gworker.ipc.scoreboard import Column
from gworker.logs import nonblocking, setup
from gworker.master import control_commands
from gworker.master.connection_reports import REPORT_SECONDS
from gworker.master.slots import Role
from gworker.master.watchdog import DUMP_SECONDS

MakeWorld = Callable[..., World]


# ---- messages that never end


def talk_for_ever(world: World) -> None:
    """Two messages wait in every turn: processes that do nothing but talk."""

    def again() -> None:
        world.arbiter.messages.append(again)

    for _ in range(2):
        world.arbiter.messages.append(again)


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
    assert world.killed() == [hanging]
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
    control_commands.answer(world.instance, call)  # type: ignore[arg-type]
    world.hanging = frozenset(world.living())
    talk_for_ever(world)
    pass_time_in_turns(world, REPORT_SECONDS + 0.2)
    assert call.exit == 0


def test_an_upgrade_waits_for_all_messages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exec would lose them."""
    world.start(declaration("a"))
    talk_for_ever(world)
    monkeypatch.setattr(
        world.instance, "proceed_with_upgrade", lambda: pytest.fail("messages wait")
    )
    pass_time_in_turns(world, 1.0)


# ---- signals


def test_every_signal_has_a_meaning_and_none_that_python_needs_is_taken(world: World) -> None:
    assert signal.SIGUSR2 in SIGNALS, (
        "its default action would kill the arbiter and leave the workers"
    )


def test_hup_reloads(world: World) -> None:
    world.start(declaration("a"))
    world.signal(signal.SIGHUP)
    assert world.instance.state == "reloading"
    world.declare(declaration("a"))
    world.finish_reload()
    assert world.serving() == {"a#0": 2}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_stopping(world: World, number: signal.Signals) -> None:
    world.start(declaration("a", count=2))
    world.signal(number)
    expected = "retire" if number == signal.SIGTERM else "quit"
    assert [world.told(each)[0]["do"] for each in world.living()] == [expected] * 2
    assert world.instance.state == "stopping"
    for process in world.living():
        world.die(process)
    assert world.instance.state == "stopped"
    assert list(world.fleet.exits) == []


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_second_signal_cuts_the_grace_short(make: MakeWorld, second: signal.Signals) -> None:
    world = make(graceful_timeout=1000.0)
    world.start(declaration("a"))
    (process,) = world.living()
    world.signal(signal.SIGTERM)
    world.signal(second)
    assert [each["do"] for each in world.told(process)] == ["retire", "quit"]
    world.sleep(3)
    assert world.killed() == [process]
    assert world.instance.state == "stopped"


def test_a_graceful_stop_ends_with_a_kill(make: MakeWorld) -> None:
    world = make(graceful_timeout=5.0)
    world.start(declaration("a", count=2))
    world.signal(signal.SIGTERM)
    world.sleep(6.5 + DUMP_SECONDS)
    assert world.instance.state == "stopping"
    world.sleep(1)
    assert world.instance.state == "stopped"


def test_a_process_that_asks_for_a_successor_while_stopping_gets_none(world: World) -> None:
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
    assert list(world.fleet.exits) == []
    assert sorted(world.fleet.slots) == [("a", 0), ("b", 0)]


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


# ---- when nothing waits


def test_commands_that_wait_are_told_in_time_that_the_arbiter_is_alive(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    monkeypatch.setattr(world.arbiter.control, "pulse", told.append)
    world.start(declaration("a"))
    world.sleep(10)
    world.signal(signal.SIGTERM)
    world.sleep(10)
    assert max(after - before for before, after in pairwise([1000.0, *told, world.now])) <= 1.5


def test_when_idle_the_arbiter_sleeps_a_second_and_no_less(world: World) -> None:
    world.start(declaration("a", count=3))
    world.sleep(2)
    world.run()
    due = world.arbiter.next_deadline()
    assert due - world.now > 0.4


def test_the_log_says_what_was_received(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.start(declaration("a"))
    with caplog.at_level(logging.INFO, logger="gworker"):
        world.signal(signal.SIGHUP)
        world.signal(signal.SIGCHLD)
    assert "received SIGHUP" in caplog.text
    assert "SIGCHLD" not in caplog.text
