"""The arbiter's turn: deaths, signals, deadlines, requests; with invented pids and an invented
clock."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from world import FakeCall, World, declaration

from gworker.arbiter import CHORES_SECONDS, SIGNALS
from gworker.ipc.scoreboard import Column
from gworker.logs import nonblocking, setup
from gworker.master import control_commands
from gworker.master.connection_reports import LOOK_SECONDS, MOST_REPORT_SECONDS, REPORT_SECONDS
from gworker.master.slots import Process, Role
from gworker.master.watchdog import DUMP_SECONDS

MakeWorld = Callable[..., World]


# ---- deaths


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


# ---- messages that never end


def talk_for_ever(world: World) -> None:
    """Two messages wait in every turn: processes that do nothing but talk."""

    def again() -> None:
        world.arbiter.post(again)

    for _ in range(2):
        world.arbiter.post(again)


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


def test_a_message_during_which_the_machine_stood_still_is_no_reason_to_kill(
    make: MakeWorld,
) -> None:
    world = make(timeout=2.0, boot_timeout=10.0)
    world.start(declaration("a", count=2))

    def stand_still() -> None:
        world.now += 3600

    world.say(world.living()[0], event="replace", reason="")
    world.arbiter.post(stand_still)
    world.run()
    assert world.children.signals == []


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


def test_a_storm_of_hups_is_one_reload_and_one_more(world: World) -> None:
    world.start(declaration("a"))
    for _ in range(50):
        world.signal(signal.SIGHUP)
    for _ in range(2):
        world.declare(declaration("a"))
        world.finish_reload()
    assert world.instance.state == "running"
    assert world.serving() == {"a#0": 3}


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
    call = world.ask("dance")
    assert (call.exit, call.extra) == (1, {"error": "unknown command 'dance'"})


def test_a_fault_of_ours_in_a_command_does_not_end_the_service(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.start(declaration("a"))
    monkeypatch.setattr(world.instance, "status", partial(getattr, None, "report"))
    call = world.ask("status")
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
    call = world.ask("scale", **arguments)
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
    call = world.ask(command, **arguments)
    assert (call.exit, call.extra) == (1, {"error": error})
    assert world.instance.state == "running"
    assert world.serving() == {"a#0": 1}


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
    call = world.ask("connections")
    for process in world.living():
        assert call.exit is None
        answered(world, process)
    assert (call.exit, call.extra) == (0, {"missing": []})
    assert [reply["pid"] for reply in call.replies] == [each.pid for each in world.living()]


def test_connections_of_one_worker(world: World) -> None:
    world.start(declaration("a"), declaration("b"))
    world.ask("connections", worker="b")
    assert world.told(world.one("a")) == []
    assert len(world.told(world.one("b"))) == 1
    assert world.ask("connections", worker="c").extra == {
        "error": "there is no Worker 'c'; there are a, b"
    }


def test_a_process_that_does_not_answer_is_named_as_missing(world: World) -> None:
    world.start(declaration("a", count=2))
    stuck, well = world.living()
    world.hanging = frozenset([stuck])
    call = world.ask("connections")
    answered(world, well)
    world.sleep(REPORT_SECONDS + LOOK_SECONDS)
    assert (call.exit, call.extra) == (0, {"missing": [stuck.pid]})
    assert [reply["pid"] for reply in call.replies] == [well.pid]
    world.say(stuck, event="connections", request=1)
    assert stuck in world.living(), "a late answer is no nonsense"


def test_a_process_that_is_at_work_on_its_list_is_waited_for(world: World) -> None:
    world.start(declaration("a", count=2))
    slow, endless = world.living()
    call = world.ask("connections")
    world.sleep(5 * REPORT_SECONDS)
    assert call.exit is None
    answered(world, slow)
    world.sleep(MOST_REPORT_SECONDS)
    assert (call.exit, call.extra) == (0, {"missing": [endless.pid]})


def test_a_process_that_could_not_make_its_list_is_missing(world: World) -> None:
    world.start(declaration("a"))
    call = world.ask("connections")
    world.say(*world.living(), event="connections", request=1)
    assert (call.exit, call.extra) == (0, {"missing": [world.living()[0].pid]})


def test_nobody_to_ask(world: World) -> None:
    world.begin()
    call = world.ask("connections")
    assert (call.exit, call.extra) == (0, {"missing": []})


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


def test_who_and_stop(world: World) -> None:
    world.start(declaration("a"))
    who = world.ask("who").replies[0]["who"]
    assert (who["name"], who["target"], who["workers"], who["generation"]) == ("test", "app", 1, 1)
    stop = world.ask("stop")
    assert stop.replies[0] == {"timeout": 30.0}
    assert stop.exit is None, "its end is the end of the connection"
    assert world.instance.state == "stopping"


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
