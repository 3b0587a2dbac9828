"""Callbacks of the instance: which helper children there are, what they are to call, and when they
have to end."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any

import pytest
from world import World, declaration

from gworker.app.callbacks import MASTER_CALLBACKS
from gworker.master.master_callbacks import (
    MOST_RUNNING,
    MOST_WAITING,
    QUICK_SECONDS,
    RETRY_SECONDS,
    SECONDS,
    STOP_SECONDS,
)
from gworker.master.slots import Process, Role

MakeWorld = Callable[..., World]


def having(name: str, *hooks: str, **fields: Any) -> Any:
    return declaration(name, hooks=hooks or MASTER_CALLBACKS, **fields)


def calls(world: World) -> dict[str, list[Any]]:
    """What the helper children that run are to call, by Worker."""
    return {
        process.worker: world.instance.callbacks.running[process] for process in world.helpers()
    }


def helper(world: World) -> Process:
    (process,) = world.helpers()
    return process


def stop(world: World) -> None:
    """All processes leave."""
    world.signal(signal.SIGTERM)
    world.run()
    for process in world.living():
        world.die(process)


# ---- on_worker_exit


def test_a_process_that_dies_is_told_to_a_helper(world: World) -> None:
    world.start(having("a", count=2))
    world.sleep(10)
    assert world.helpers() == []
    process = world.living()[1]
    world.die(process, 11)
    assert calls(world) == {
        "a": [("on_worker_exit", (1, process.pid, "killed by signal 11 (SIGSEGV)"))]
    }
    assert [each.label for each in world.booting()] == ["a#1"], "and it is replaced meanwhile"


def test_a_worker_without_such_a_callback_costs_nothing(world: World) -> None:
    world.start(having("a", "on_master_stop"), having("b"))
    world.sleep(10)
    world.die(world.living()[0], 9)
    assert calls(world) == {}


def test_a_failed_boot_is_told_with_what_it_said(world: World) -> None:
    world.start(having("a", "on_worker_exit"))
    world.sleep(10)
    world.die(world.living()[0], 9)
    world.die(helper(world))
    world.fail(world.booting()[0], "it does not work")
    assert calls(world)["a"][0][1][2] == "it does not work"


def test_one_child_for_each_worker_and_the_next_one_makes_all_calls_that_wait(world: World) -> None:
    world.start(having("a", count=4), having("b"))
    world.sleep(10)
    first, *others = [each for each in world.living() if each.worker == "a"]
    world.die(first, 9)
    running = helper(world)
    for process in others:
        world.die(process, 9)
    world.die(next(each for each in world.living() if each.worker == "b"), 9)
    assert {name: len(found) for name, found in calls(world).items()} == {"a": 1, "b": 1}
    world.die(running)
    assert [arguments[1] for _, arguments in calls(world)["a"]] == [each.pid for each in others], (
        "in order"
    )


def test_few_children_at_once(world: World) -> None:
    names = [f"w{number}" for number in range(MOST_RUNNING + 3)]
    world.start(*(having(name) for name in names))
    world.sleep(10)
    for process in world.living():
        world.die(process, 9)
    assert list(calls(world)) == names[:MOST_RUNNING]
    world.die(world.helpers()[0])
    assert list(calls(world)) == names[1 : MOST_RUNNING + 1]


def test_a_crash_loop_is_bounded_and_what_is_dropped_is_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.start(having("a", count=300))
    world.sleep(10)
    world.children.make_deathless(helper_of_first_death(world))
    for process in world.living():
        world.children.end(process, 9)
    world.run()
    assert len(world.helpers()) == 1
    assert sum(len(found) for found in world.instance.callbacks.waiting.values()) == MOST_WAITING
    assert (
        caplog.text.count("on_worker_exit of a is not called: 256 calls wait already")
        == 300 - MOST_WAITING
    )


def helper_of_first_death(world: World) -> Process:
    world.die(world.living()[0], 9)
    return helper(world)


def test_one_that_takes_too_long_is_killed_and_the_next_one_runs(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.start(having("a", count=2))
    world.sleep(10)
    late = helper_of_first_death(world)
    world.die(world.living()[0], 9)
    world.sleep(SECONDS - 1)
    assert world.helpers() == [late]
    world.sleep(2)
    assert late not in world.helpers()
    assert (
        f"hooks of a (pid {late.pid}): not done within {SECONDS:.1f} s: killed by signal 9"
        in caplog.text
    )
    assert "perhaps not called: on_worker_exit" in caplog.text
    assert len(world.helpers()) == 1


def test_one_that_cannot_load_is_told_and_has_no_consequence(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.start(having("a"))
    world.sleep(10)
    before = len(world.fleet.exits)
    world.fail(
        helper_of_first_death(world), "target 'app' failed to load", "Traceback of the user\n"
    )
    assert "target 'app' failed to load; perhaps not called: on_worker_exit" in caplog.text
    assert "Traceback of the user" in caplog.text
    assert world.instance.state == "running"
    assert len(world.fleet.exits) == before + 1, "the process's, not the helper's"


def test_a_fork_that_is_refused_is_tried_again(world: World) -> None:
    world.start(having("a"))
    world.sleep(10)
    world.kernel.refused = 2  # the replacement's, and the helper's
    world.die(world.living()[0], 9)
    assert world.helpers() == []
    world.sleep(RETRY_SECONDS + 0.5)
    assert calls(world)["a"][0][0] == "on_worker_exit"


def test_helpers_are_no_processes_of_the_service(world: World) -> None:
    world.start(having("a"))
    world.sleep(10)
    process = helper_of_first_death(world)
    world.say(process, event="ready")
    world.say(process, event="declared", workers=[])
    world.say(process, event="replace", reason="")
    assert [each.label for each in world.booting()] == ["a#0"]
    assert world.instance.state == "running"


# ---- on_master_reload


def test_after_a_reload_the_new_code_is_told(world: World) -> None:
    world.start(having("a", "on_master_reload"), having("b", "on_worker_exit"))
    call = world.reload()
    world.declare(having("a", "on_master_reload", count=2), having("c", "on_master_reload"))
    assert world.helpers() == []
    world.finish_reload()
    assert call.exit == 0
    assert calls(world) == {"a": [("on_master_reload", ())], "c": [("on_master_reload", ())]}


def test_a_reload_that_is_refused_is_none(world: World) -> None:
    world.start(having("a"))
    world.reload()
    world.fail(world.probe)
    assert world.helpers() == []


def test_the_start_is_no_reload(world: World) -> None:
    world.start(having("a"))
    world.sleep(3)
    assert world.helpers() == []


# ---- on_master_stop


def test_at_the_end_the_arbiter_waits_for_them(world: World) -> None:
    world.start(having("a", "on_master_stop"), having("b", "on_master_stop"))
    stop(world)
    assert calls(world) == {"a": [("on_master_stop", ())], "b": [("on_master_stop", ())]}
    assert world.instance.state == "stopping"
    for process in world.helpers():
        world.die(process)
    assert world.instance.state == "stopped"


def test_one_that_runs_when_the_instance_stops_goes_on(world: World) -> None:
    world.start(having("a", "on_worker_exit", count=2))
    world.sleep(10)
    running = helper_of_first_death(world)
    stop(world)
    assert running in world.helpers()
    assert (running, signal.SIGKILL) not in world.children.signals
    world.die(running)
    assert len(calls(world)["a"]) == 2
    world.die(helper(world))
    assert world.instance.state == "stopped"


def test_one_child_makes_all_calls_of_a_stop_in_order(world: World) -> None:
    world.start(having("a", count=2))
    first, second = world.living()
    world.signal(signal.SIGTERM)
    world.run()
    world.die(first)
    world.sleep(1)
    assert world.helpers() == []
    world.die(second)
    assert calls(world)["a"] == [
        ("on_worker_exit", (0, first.pid, "exited 0")),
        ("on_worker_exit", (1, second.pid, "exited 0")),
        ("on_master_stop", ()),
    ]


@pytest.mark.parametrize(
    ("number", "graceful", "seconds"),
    [
        (signal.SIGTERM, 30.0, STOP_SECONDS),
        (signal.SIGTERM, 1.0, QUICK_SECONDS),
        (signal.SIGTERM, 3.5, 3.5),
        (signal.SIGINT, 30.0, QUICK_SECONDS),
    ],
)
def test_they_have_only_so_long(
    make: MakeWorld, number: signal.Signals, graceful: float, seconds: float
) -> None:
    world = make(graceful_timeout=graceful)
    world.start(having("a", "on_master_stop"))
    world.signal(number)
    world.run()
    world.die(world.living()[0])
    began = world.now
    while world.instance.state != "stopped":
        assert world.now < began + 20
        world.sleep(0.5)
    assert world.now - began == seconds
    assert world.helpers() == []


def test_a_second_signal_cuts_it_short(world: World) -> None:
    world.start(having("a", "on_master_stop"))
    stop(world)
    world.sleep(1)
    world.signal(signal.SIGTERM)
    world.sleep(QUICK_SECONDS)
    assert world.instance.state == "stopped"


def test_what_is_too_late_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.start(having("a", count=2))
    world.sleep(10)
    world.children.make_deathless(helper_of_first_death(world))
    stop(world)
    world.sleep(STOP_SECONDS + 1)
    assert (
        "the instance stops: not called any more of a: on_worker_exit × 2, on_master_stop"
        in caplog.text
    )


def test_an_instance_that_was_never_ready_does_not_stop(world: World) -> None:
    world.begin()
    world.declare(having("a", "on_master_stop"))
    world.fail(world.booting()[0])
    world.sleep(1)
    assert world.instance.state == "stopped"
    assert not any(each.role is Role.CALLBACKS for each in world.children.born)


def test_a_declaration_that_makes_no_sense_ends_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.start(having("a"))
    call = world.reload()
    world.declare(declaration("a", hooks=7))
    assert call.exit == 1
    assert "hooks=7 is not a list of names" in call.extra["error"]
