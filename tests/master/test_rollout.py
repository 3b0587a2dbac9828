"""Starts and reloads, step by step, with invented pids: what is replaced when, and what a failure
leaves behind."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import asdict

import pytest
from world import World, declaration

from gworker.errors import ConfigError
from gworker.master.rollout_events import Declared
from gworker.master.slots import Process

TCP = "tcp://127.0.0.1:0"

MakeWorld = Callable[..., World]

RETIRE = {"do": "retire", "seconds": 30.0, "handover": False}


def snapshot(world: World) -> object:
    """All that a refused reload may not change."""
    fleet = world.fleet
    return (
        fleet.plan,
        fleet.generation,
        {
            key: listener.port
            for key, listener in (
                (key, fleet.listeners.held.get(key))
                for key in sorted(fleet.listeners.held.keys(), key=repr)
            )
        },
        {
            place: (slot.current, slot.successor, list(slot.leaving), slot.failures)
            for place, slot in fleet.slots.items()
        },
        dict(world.fleet.plan.asked),
        world.instance.state,
    )


def one(processes: list[Process]) -> Process:
    (process,) = processes
    return process


# ---- the first start


def test_a_start_fills_every_slot_at_once_and_is_ready_when_all_are(world: World) -> None:
    world.begin()
    world.declare(declaration("a", listen=TCP, count=2), declaration("b"))
    assert [each.label for each in world.booting()] == ["a#0", "a#1", "b#0"]
    first, *others = world.booting()
    world.ready(first)
    assert world.instance.state == "starting"
    assert world.launch.words == []
    world.ready(*others)
    assert world.instance.state == "running"
    assert world.serving() == {"a#0": 1, "a#1": 1, "b#0": 1}
    ((kind, message),) = world.launch.words
    assert kind == "ready"
    assert "3 processes on tcp://127.0.0.1:" in message


def test_the_order_in_which_they_are_ready_does_not_matter(world: World) -> None:
    world.begin()
    world.declare(declaration("a", count=3))
    world.ready(*reversed(world.booting()))
    assert world.instance.state == "running"


def test_a_start_that_cannot_load_fails_with_the_traceback(world: World) -> None:
    world.begin()
    world.fail(world.probe, "target 'app' failed", "Traceback: line 3\n")
    assert world.launch.words == [
        ("failed", "Traceback: line 3\ngworker: error: target 'app' failed")
    ]
    assert world.instance.state == "stopped"
    assert world.instance.exit_code == 1


def test_a_start_in_which_one_process_fails_ends_all_of_them(world: World) -> None:
    world.begin()
    world.declare(declaration("a", listen=TCP, count=3))
    first, second, third = world.booting()
    world.ready(first)
    world.fail(second, "on_worker_start raised")
    assert world.launch.words == [
        ("failed", "Traceback…\ngworker: error: a#1: on_worker_start raised")
    ]
    assert len(world.fleet.listeners.held) == 0
    assert third not in world.living()
    world.die(first)
    assert world.instance.state == "stopped"
    assert world.instance.exit_code == 1


@pytest.mark.parametrize("status", [0, 3 << 8, 9])
def test_a_start_whose_probe_says_nothing_fails(world: World, status: int) -> None:
    world.begin()
    world.die(world.probe, status)
    ((kind, message),) = world.launch.words
    assert kind == "failed"
    assert message.startswith(
        "gworker: error: exited" if status != 9 else "gworker: error: killed by signal 9"
    )


def test_a_start_whose_boot_takes_too_long_fails(make: MakeWorld) -> None:
    world = make(boot_timeout=5.0)
    world.begin()
    world.declare(declaration("a"))
    world.sleep(4.5)
    assert world.launch.words == []
    world.sleep(2)
    assert [number for _, number in world.children.signals] == [signal.SIGUSR2, signal.SIGKILL], (
        "its stacks first"
    )
    assert world.launch.words == [
        ("failed", "gworker: error: a#0: not ready within 5 s: killed by signal 9 (SIGKILL)")
    ]
    assert world.instance.state == "stopped"


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_start_with_a_fork_that_is_refused_fails_and_leaves_nothing(
    world: World, after: int
) -> None:
    world.kernel.allowed, world.kernel.refused = after, 1
    world.begin()
    if after:
        world.declare(declaration("a", listen=TCP, count=3))
    where = f"a#{after - 1}: " if after else ""
    assert world.launch.words == [
        ("failed", f"gworker: error: {where}fork: Resource temporarily unavailable")
    ]
    assert world.living() == []
    assert len(world.fleet.listeners.held) == 0
    assert world.instance.state == "stopped"


def test_a_start_with_addresses_that_are_taken_fails(world: World) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        world.begin()
        world.declare(declaration("a", listen=TCP), declaration("b", listen=url))
    ((kind, message),) = world.launch.words
    assert kind == "failed"
    assert "in use by another program" in message
    assert len(world.fleet.listeners.held) == 0
    assert world.instance.state == "stopped"


def test_one_that_dies_after_it_was_ready_does_not_end_the_start(world: World) -> None:
    world.begin()
    world.declare(declaration("a", count=2))
    first, second = world.booting()
    world.ready(first)
    world.die(first, 9)
    world.sleep(1)
    assert world.booting() == [second], "a rollout fills its slots itself"
    world.ready(second)
    assert world.instance.state == "running"
    world.sleep(1)
    world.ready(*world.booting())
    assert world.serving() == {"a#0": 1, "a#1": 1}


# ---- a reload that goes well


def test_a_reload_replaces_one_after_the_other_successor_first(world: World) -> None:
    world.start(declaration("a", listen=TCP, count=2))
    old = world.living()
    call = world.reload()
    world.declare(declaration("a", listen=TCP, count=2))
    successor = one(world.booting())
    assert (successor.label, successor.generation) == ("a#0", 2)
    assert world.told(old[0]) == []
    assert world.fleet.generation == 1
    world.ready(successor)
    assert world.told(old[0]) == [RETIRE | {"code": 1012, "drain": False, "reload": True}]
    assert world.told(old[1]) == []
    assert call.exit is None
    last = one(world.booting())
    assert last.label == "a#1"
    world.ready(last)
    assert world.told(old[1])[0]["do"] == "retire"
    assert call.exit == 0
    assert world.instance.state == "running"
    world.die(old[0])
    world.die(old[1])
    assert world.serving() == {"a#0": 2, "a#1": 2}
    assert world.instance.rollouts.report()["ok"] is True
    assert list(world.fleet.exits) == []
    assert "a#0 is ready" in call.steps[2]
    assert "[2/2]" in call.steps[3]


def test_a_reload_does_not_wait_for_those_that_retire(world: World) -> None:
    world.start(declaration("a"))
    (old,) = world.living()
    call = world.reload()
    world.declare(declaration("a"))
    world.ready(*world.booting())
    assert call.exit == 0
    assert old in world.living()


def test_listeners_stay_the_very_same(world: World) -> None:
    world.start(
        declaration("a", listen=TCP), declaration("b", listen=TCP, reuse_port=True, count=2)
    )
    before = {id(listener) for listener in world.fleet.listeners.held.values()}
    world.reload()
    world.declare(
        declaration("a", listen=TCP), declaration("b", listen=TCP, reuse_port=True, count=2)
    )
    world.finish_reload()
    assert {id(listener) for listener in world.fleet.listeners.held.values()} == before


def test_each_reload_is_the_next_generation(world: World) -> None:
    world.start(declaration("a"))
    for generation in (2, 3, 4):
        call = world.reload()
        world.declare(declaration("a"))
        world.finish_reload()
        assert call.exit == 0
        assert world.serving() == {"a#0": generation}


def test_a_changed_address_closes_the_old_one_when_all_is_done(world: World) -> None:
    world.start(declaration("a", listen=TCP))
    (before,) = world.fleet.listeners.held.values()
    world.reload()
    world.declare(declaration("a", listen="tcp://127.0.0.2:0"))
    assert len(world.fleet.listeners.held) == 2
    world.finish_reload()
    (after,) = world.fleet.listeners.held.values()
    assert (before.key.host, after.key.host) == ("127.0.0.1", "127.0.0.2")
    assert before.descriptors == (-1,)


def test_an_added_worker_comes_after_the_replacements(world: World) -> None:
    world.start(declaration("old"))
    world.reload()
    world.declare(declaration("new", listen=TCP, count=2), declaration("old"))
    assert one(world.booting()).label == "old#0"
    world.finish_reload()
    assert world.serving() == {"old#0": 2, "new#0": 2, "new#1": 2}


def test_a_removed_worker_retires_at_the_end_and_its_address_closes_at_once(world: World) -> None:
    world.start(declaration("kept"), declaration("gone", listen=TCP))
    gone = one([each for each in world.living() if each.worker == "gone"])
    call = world.reload()
    world.declare(declaration("kept"))
    assert world.told(gone) == []
    world.ready(*world.booting())
    assert call.exit == 0
    # "stop": no other process will accept what waits in its queue
    assert world.told(gone) == [RETIRE | {"code": 1001, "drain": True, "reload": False}]
    assert len(world.fleet.listeners.held) == 0
    assert ("gone", 0) in world.fleet.slots
    world.finish_reload()
    assert world.serving() == {"kept#0": 2}
    assert ("gone", 0) not in world.fleet.slots
    assert list(world.fleet.exits) == []


def test_a_renamed_worker_is_started_before_the_old_one_goes(world: World) -> None:
    world.start(declaration("before", listen="tcp://127.0.0.1:0"))
    (old,) = world.living()
    world.reload()
    world.declare(declaration("after", listen="tcp://127.0.0.1:0"))
    assert world.serving() == {"before#0": 1}
    world.ready(*world.booting())
    assert world.told(old)[0]["do"] == "retire"
    world.finish_reload()
    assert world.serving() == {"after#0": 2}


def test_a_higher_count_adds_and_a_lower_one_removes_at_the_end(world: World) -> None:
    world.start(declaration("a", count=2))
    world.reload()
    world.declare(declaration("a", count=3))
    world.finish_reload()
    assert world.serving() == {"a#0": 2, "a#1": 2, "a#2": 2}
    world.reload()
    world.declare(declaration("a", count=1))
    world.ready(*world.booting())
    surplus = [each for each in world.retiring() if each.id > 0]
    assert len(surplus) == 2
    world.finish_reload()
    assert world.serving() == {"a#0": 3}
    assert list(world.fleet.exits) == []


def test_a_worker_that_is_not_reloadable_is_told_and_kept(world: World) -> None:
    world.start(declaration("kept", reloadable=False), declaration("a"))
    kept = one([each for each in world.living() if each.worker == "kept"])
    call = world.reload()
    world.declare(declaration("kept", reloadable=False), declaration("a"))
    assert world.told(kept) == [], "the reload may still be refused"
    world.finish_reload()
    assert call.exit == 0
    assert world.told(kept) == [{"do": "reload"}]
    assert world.serving() == {"kept#0": 1, "a#0": 2}
    assert "[1/1]" in " ".join(call.steps)


def test_a_reload_of_nothing_but_kept_ones(world: World) -> None:
    world.start(declaration("kept", reloadable=False))
    call = world.reload()
    world.declare(declaration("kept", reloadable=False))
    assert call.exit == 0
    assert world.told(*world.living()) == [{"do": "reload"}]
    assert world.fleet.generation == 2


def test_one_that_stops_being_reloadable_is_kept_and_the_other_way_round(world: World) -> None:
    world.start(declaration("a", reloadable=False))
    world.reload()
    world.declare(declaration("a"))
    world.finish_reload()
    assert world.serving() == {"a#0": 2}
    world.reload()
    world.declare(declaration("a", reloadable=False))
    assert world.serving() == {"a#0": 2}


def test_a_worker_that_is_not_reloadable_and_dead_is_filled(world: World) -> None:
    world.start(declaration("a", reloadable=False))
    world.die(*world.living(), 9)
    world.reload()
    world.declare(declaration("a", reloadable=False))
    world.finish_reload()
    assert len(world.serving()) == 1


# ---- refused: nothing has changed


def refusals() -> dict[str, Callable[[World], str]]:
    """Ways in which a reload fails before the first retirement; each returns a part of the
    reason."""

    def load(world: World) -> str:
        world.fail(world.probe, "target 'app' failed to load")
        return "target 'app' failed to load"

    def silent(world: World) -> str:
        world.die(world.probe, 3 << 8)
        return "exited 3"

    def slow(world: World) -> str:
        world.sleep(70)
        return "not ready within 60 s"

    def names(world: World) -> str:
        world.declare(declaration("a"), declaration("a"))
        return "two Workers are named 'a'"

    def address(world: World) -> str:
        world.declare(
            declaration("a", listen=TCP, count=2), declaration("b", listen="tcp://192.0.2.1:80")
        )
        return "192.0.2.1 is not an address of this machine"

    def boot(world: World) -> str:
        world.declare(declaration("a", listen=TCP, count=3), declaration("b", listen=TCP))
        world.fail(*world.booting(), reason="on_worker_start raised")
        return "a#0: on_worker_start raised"

    def dies(world: World) -> str:
        world.declare(declaration("a", listen=TCP, count=2))
        world.die(*world.booting(), 11)
        return "a#0: killed by signal 11 (SIGSEGV)"

    def hangs(world: World) -> str:
        world.declare(declaration("a", listen=TCP, count=2))
        world.sleep(70)
        return "a#0: not ready within 60 s"

    def fork(world: World) -> str:
        world.kernel.refused = 1
        world.declare(declaration("a", listen=TCP, count=2))
        return "a#0: fork: Resource temporarily unavailable"

    def added(world: World) -> str:
        world.declare(declaration("new", listen=TCP, count=2))
        first = one(world.booting())
        world.ready(first)
        world.fail(*world.booting(), reason="the second cannot start")
        world.die(first)
        return "new#1: the second cannot start"

    return {
        each.__name__: each
        for each in (load, silent, slow, names, address, boot, dies, hangs, fork, added)
    }


@pytest.mark.parametrize("how", refusals().values(), ids=refusals())
def test_a_refused_reload_changes_nothing(world: World, how: Callable[[World], str]) -> None:
    world.start(declaration("a", listen=TCP, count=2))
    before, old = snapshot(world), world.living()
    call = world.reload()
    reason = how(world)
    world.sleep(5)
    assert call.exit == 1
    assert reason in call.extra["error"]
    assert world.instance.rollouts.report()["ok"] is False
    assert reason in world.instance.rollouts.report()["error"]
    assert snapshot(world) == before
    assert world.living() == old
    assert [world.told(each) for each in old] == [[], []]


@pytest.mark.parametrize("how", refusals().values(), ids=refusals())
def test_the_reload_after_a_refused_one_replaces_everything(
    world: World, how: Callable[[World], str]
) -> None:
    world.start(declaration("a", listen=TCP, count=2))
    world.reload()
    how(world)
    call = world.reload()
    world.declare(declaration("a", listen=TCP, count=2))
    world.finish_reload()
    assert call.exit == 0
    assert world.serving() == {"a#0": 2, "a#1": 2}


def test_the_traceback_is_told_beside_the_reason(world: World) -> None:
    world.start(declaration("a"))
    call = world.reload()
    world.fail(world.probe, "it failed", "Traceback…\n  line\n")
    note = "nothing has changed: generation 1 serves on"
    assert call.extra == {"error": "it failed", "traceback": "Traceback…\n  line\n", "note": note}


def test_a_refused_fork_of_the_probe(world: World) -> None:
    world.start(declaration("a"))
    before = snapshot(world)
    world.kernel.refused = 1
    call = world.reload()
    assert call.extra["error"] == "fork: Resource temporarily unavailable"
    assert snapshot(world) == before


def test_a_probe_that_does_not_end_is_no_failure_of_the_next_reload(world: World) -> None:
    world.start(declaration("a"))
    world.reload()
    lingering = world.probe
    world.say(lingering, event="declared", workers=[asdict(declaration("a"))])
    world.finish_reload()
    world.sleep(world.fleet.settings.boot_timeout - 0.5)
    call = world.reload()
    world.sleep(5)
    assert lingering in world.killed()
    assert call.exit is None
    world.declare(declaration("a"))
    world.finish_reload()
    assert call.exit == 0


def test_connections_that_stay_are_told_while_the_target_is_loaded(world: World) -> None:
    """A process that was recycled retires in the middle of a reload."""
    declared = declaration("a", migration_obstacle="")
    world.start(declared)
    (old,) = world.living()
    world.say(old, event="replace", reason="7 requests")
    (successor,) = world.booting()
    call = world.reload()
    world.ready(successor)
    world.hand_over(old, TLS=3)
    assert "3 connections cannot move: TLS (a#0)" in call.steps
    world.declare(declared)


def test_one_that_died_during_a_refused_reload_is_replaced_by_the_next(world: World) -> None:
    """Its replacement has not the number that the refused generation would have had."""
    world.start(declaration("a", count=2))
    world.reload()
    world.declare(declaration("a", count=2))
    first, second = (each for each in world.living() if each.generation == 1)
    world.die(second, 9)
    world.sleep(0.5)
    replacement = one([each for each in world.booting() if each.id == 1])
    assert replacement.generation == 1
    world.ready(replacement)
    world.fail(one(world.booting()))
    assert world.serving() == {"a#0": 1, "a#1": 1}
    world.reload()
    world.declare(declaration("a", count=2))
    world.finish_reload()
    assert world.serving() == {"a#0": 2, "a#1": 2}
    assert first not in world.living()


# ---- a failure in the middle


def test_a_failure_in_the_middle_stops_the_reload_where_it_is(world: World) -> None:
    world.start(declaration("a", count=3))
    old = world.living()
    call = world.reload()
    world.declare(declaration("a", count=3))
    world.ready(*world.booting())
    world.fail(one(world.booting()), "the second cannot start")
    assert call.exit == 1
    assert call.extra["error"] == "a#1: the second cannot start (1 of 3 were replaced before)"
    assert world.instance.state == "running"
    assert world.serving() == {"a#0": 2, "a#1": 1, "a#2": 1}
    world.die(old[0])
    world.sleep(60)
    assert world.booting() == [], "a process that serves is left alone"


def test_the_reload_after_a_failure_in_the_middle_repairs(world: World) -> None:
    world.start(declaration("a", count=2))
    world.reload()
    world.declare(declaration("a", count=2))
    world.ready(*world.booting())
    world.fail(one(world.booting()))
    call = world.reload()
    world.declare(declaration("a", count=2))
    world.finish_reload()
    assert call.exit == 0
    assert world.serving() == {"a#0": 3, "a#1": 3}


def test_an_old_one_that_dies_after_a_failure_in_the_middle_is_filled_with_new_code(
    world: World,
) -> None:
    world.start(declaration("a", count=2))
    world.reload()
    world.declare(declaration("a", count=2))
    world.ready(*world.booting())
    world.fail(one(world.booting()))
    old = one([each for each in world.living() if each.id == 1])
    world.die(old, 9)
    world.sleep(1)
    assert one(world.booting()).generation == 2


# ---- deaths during a reload


def test_an_old_process_that_dies_while_its_successor_boots_is_no_failure(world: World) -> None:
    world.start(declaration("a"))
    (old,) = world.living()
    call = world.reload()
    world.declare(declaration("a"))
    world.die(old, 9)
    successor = one(world.booting())
    assert successor.generation == 2
    world.ready(successor)
    assert call.exit == 0
    assert world.serving() == {"a#0": 2}


def test_both_die(world: World) -> None:
    world.start(declaration("a"))
    (old,) = world.living()
    call = world.reload()
    world.declare(declaration("a"))
    world.die(old, 9)
    world.die(one(world.booting()), 9)
    assert call.exit == 1
    world.sleep(1)
    world.ready(*world.booting())
    assert world.serving() == {"a#0": 1}


def test_another_slot_that_dies_during_a_reload_is_filled_and_replaced_in_its_turn(
    world: World,
) -> None:
    world.start(declaration("a", count=2))
    call = world.reload()
    world.declare(declaration("a", count=2))
    world.die(one([each for each in world.living() if each.id == 1]), 9)
    world.sleep(0.5)
    world.ready(one([each for each in world.booting() if each.id == 1]))
    assert world.serving() == {"a#0": 1, "a#1": 1}
    world.finish_reload()
    assert call.exit == 0
    assert world.serving() == {"a#0": 2, "a#1": 2}


def test_a_slot_that_was_filled_with_new_code_after_the_first_retirement_is_not_replaced_again(
    world: World,
) -> None:
    world.start(declaration("a", count=3))
    call = world.reload()
    world.declare(declaration("a", count=3))
    old = one([each for each in world.living() if each.id == 2])
    world.ready(one(world.booting()))
    world.die(old, 9)
    world.sleep(1)
    world.ready(one([each for each in world.booting() if each.id == 2]))
    assert call.exit is None
    world.ready(one(world.booting()))
    assert call.exit == 0
    assert len([each for each in world.children.born if each.label == "a#2"]) == 2
    world.finish_reload()
    assert world.serving() == {"a#0": 2, "a#1": 2, "a#2": 2}


def test_a_reload_waits_for_such_a_slot_while_it_boots(world: World) -> None:
    world.start(declaration("a", count=2))
    call = world.reload()
    world.declare(declaration("a", count=2))
    old = one([each for each in world.living() if each.id == 1])
    first = one(world.booting())
    world.ready(first)
    second = one(world.booting())
    world.die(old, 9)
    assert call.exit is None
    world.ready(second)
    assert call.exit == 0


def test_a_successor_that_was_booting_when_the_reload_began_has_the_old_code(world: World) -> None:
    world.start(declaration("a"))
    (old,) = world.living()
    world.say(old, event="replace", reason="")
    early = one(world.booting())
    call = world.reload()
    world.declare(declaration("a"))
    assert world.booting() == [early]
    world.ready(early)
    assert call.exit is None
    late = one(world.booting())
    assert (early.generation, late.generation) == (1, 2)
    world.ready(late)
    assert call.exit == 0
    world.finish_reload()
    assert world.serving() == {"a#0": 2}


def test_if_that_one_fails_the_reload_goes_on(world: World) -> None:
    world.start(declaration("a"))
    (old,) = world.living()
    world.say(old, event="replace", reason="")
    early = one(world.booting())
    call = world.reload()
    world.declare(declaration("a"))
    world.fail(early)
    late = one(world.booting())
    assert late.generation == 2
    world.ready(late)
    assert call.exit == 0


def test_a_process_with_old_code_that_becomes_ready_late_does_not_count_as_replaced(
    world: World,
) -> None:
    world.start(declaration("a"))
    world.die(*world.living(), 9)
    world.sleep(1)
    old = one(world.booting())
    call = world.reload()
    world.declare(declaration("a"))
    new = one([each for each in world.booting() if each is not old])
    world.ready(old)
    assert call.exit is None
    world.fail(new)
    assert call.exit == 1
    assert world.fleet.generation == 1
    assert world.serving() == {"a#0": 1}


def test_a_crash_loop_is_ended_by_a_reload_with_better_code(world: World) -> None:
    world.start(declaration("a"))
    for _ in range(8):
        world.die(*world.living(), 3 << 8)
        world.sleep(world.fleet.slots["a", 0].retry_at - world.now)
    world.die(*world.living(), 3 << 8)
    call = world.reload()
    world.declare(declaration("a"))
    assert one(world.booting()).generation == 2, "it does not wait for the backoff"
    world.finish_reload()
    assert call.exit == 0


# ---- one after the other


def test_a_reload_during_a_reload_means_exactly_one_more(world: World) -> None:
    world.start(declaration("a"))
    calls = [world.reload() for _ in range(4)]
    world.declare(declaration("a"))
    world.finish_reload()
    assert [call.exit for call in calls] == [0, None, None, None]
    assert calls[1].steps[0] == "the instance is reloading; the reload follows"
    world.declare(declaration("a"))
    world.finish_reload()
    assert [call.exit for call in calls] == [0, 0, 0, 0]
    assert world.fleet.generation == 3
    assert world.instance.state == "running"


def test_one_more_follows_a_refused_one_as_well(world: World) -> None:
    world.start(declaration("a"))
    first, second = world.reload(), world.reload()
    world.fail(world.probe)
    assert (first.exit, second.exit) == (1, None)
    world.declare(declaration("a"))
    world.finish_reload()
    assert second.exit == 0


def test_a_reload_during_the_start_follows_it(world: World) -> None:
    world.begin()
    call = world.reload()
    world.declare(declaration("a"))
    world.ready(*world.booting())
    assert call.exit is None
    assert world.launch.words[0][0] == "ready"
    world.declare(declaration("a"))
    world.finish_reload()
    assert call.exit == 0
    assert world.serving() == {"a#0": 2}


@pytest.mark.parametrize("stage", ["probe", "boot", "middle"])
@pytest.mark.parametrize("quick", [False, True])
def test_a_stop_during_a_reload(world: World, stage: str, quick: bool) -> None:
    world.start(declaration("a", listen=TCP, count=2))
    call, following = world.reload(), world.reload()
    if stage != "probe":
        world.declare(declaration("a", listen=TCP, count=2))
    if stage == "middle":
        world.ready(*world.booting())
    world.instance.stop(quick)
    world.run()
    for waiting in (call, following):
        assert (waiting.exit, waiting.extra) == (1, {"error": "the instance is stopping"})
    assert len(world.fleet.listeners.held) == 0
    assert world.booting() == []
    for process in world.living():
        world.die(process)
    assert world.instance.state == "stopped"
    assert world.instance.exit_code == 0
    assert world.instance.rollouts.current is None


@pytest.mark.parametrize("stage", ["probe", "boot", "middle"])
def test_a_stop_during_the_start(world: World, stage: str) -> None:
    world.begin()
    if stage != "probe":
        world.declare(declaration("a", listen=TCP, count=2))
    if stage == "middle":
        world.ready(world.booting()[0])
    world.instance.stop()
    world.run()
    for process in world.living():
        world.die(process)
    assert world.instance.state == "stopped"
    assert world.launch.words == [("failed", "gworker: error: stopped before it was ready")]
    assert world.instance.exit_code == 1


def test_a_stop_while_stopping_refuses_reloads(world: World) -> None:
    world.start(declaration("a"))
    world.instance.stop()
    call = world.reload()
    assert (call.exit, call.extra) == (1, {"error": "the instance is stopping"})


# ---- what a probe says that the target declares


def test_declarations_come_back_as_they_were_sent() -> None:
    sent = [declaration("chat", count=2), declaration("web")]
    assert Declared([asdict(each) for each in sent]).declarations() == sent


@pytest.mark.parametrize("fields", [{}, {"name": "chat", "more": 1}])
def test_what_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="declaration makes no sense"):
        Declared([fields]).declarations()
