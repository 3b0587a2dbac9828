"""Slots and processes: what follows from a death, from a fork that is refused, and from counts."""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import pytest
from world import World, declaration

from gworker.ipc.scoreboard import Column
from gworker.master.slots import BACKOFF_MOST

MakeWorld = Callable[..., World]


def test_a_dead_process_is_replaced_in_its_slot(world: World) -> None:
    world.start(declaration("a", count=2))
    first, second = world.living()
    world.sleep(10)
    world.die(first, 9)
    (replacement,) = world.booting()
    assert (replacement.label, replacement.generation) == ("a#0", 1)
    (end,) = world.fleet.exits
    assert (end.worker, end.id, end.pid) == ("a", 0, first.pid)
    assert end.reason == "killed by signal 9 (SIGKILL)"
    assert world.told(second) == []


def test_one_that_exits_by_itself_is_replaced_whatever_its_code(world: World) -> None:
    """Codes mean nothing: gunicorn halts the whole server on 3 and 4."""
    world.start(declaration("a"))
    for code in (0, 1, 3, 4, 255):
        world.sleep(10)
        world.die(*world.living(), code << 8)
        world.ready(*world.booting())
        assert world.fleet.exits[-1].reason == f"exited {code}"
    assert world.instance.state == "running"


def test_a_crash_loop_backs_off_and_never_ends_the_instance(world: World) -> None:
    world.start(declaration("a"), declaration("b"))
    at = []
    for _ in range(12):
        world.die(world.one("a"), 3 << 8)
        while not world.booting():
            world.sleep(0.1)
        at.append(world.now)
        world.ready(*world.booting())
    gaps = [after - before for before, after in pairwise(at)]
    assert gaps[0] < 1
    assert gaps[-1] == pytest.approx(BACKOFF_MOST, abs=0.2)
    assert world.instance.state == "running"
    assert "b#0" in world.serving()


def test_a_boot_that_fails_after_the_start_is_tried_for_ever(world: World) -> None:
    world.start(declaration("a"))
    world.die(*world.living(), 9)
    for _ in range(20):
        world.sleep(BACKOFF_MOST)
        world.fail(*world.booting())
    assert world.instance.state == "running"
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


def test_ready_of_a_process_that_is_dead_by_then_counts_for_nothing(world: World) -> None:
    world.begin()
    world.declare(declaration("a"))
    (process,) = world.booting()
    world.children.ends[process.pid].send({"event": "ready"})
    world.die(process, 9)
    assert world.launch.words[0][0] == "failed"
    assert world.fleet.exits[-1].reason == "killed by signal 9 (SIGKILL)"


def test_a_process_that_dies_while_stopping_is_not_replaced(world: World) -> None:
    world.start(declaration("a", count=2))
    first, second = world.living()
    world.signal(signal.SIGTERM)
    world.die(first, 9)
    world.sleep(5)
    assert world.living() == [second]


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
    assert list(world.fleet.exits) == []


def test_a_booting_process_that_is_not_needed_any_more_is_killed_quietly(world: World) -> None:
    world.start(declaration("a"))
    world.signal(signal.SIGTTIN)
    (booting,) = world.booting()
    world.signal(signal.SIGTTOU)
    assert world.killed() == [booting]
    assert list(world.fleet.exits) == []
    assert sorted(world.fleet.slots) == [("a", 0)]


def test_scaling_opens_and_closes_listeners_of_reuse_port(world: World) -> None:
    world.start(declaration("a", listen="tcp://127.0.0.1:0", reuse_port=True))
    assert world.ask("scale", worker="a", count=3).exit == 0
    world.ready(*world.booting())
    assert len(world.fleet.listeners.held) == 3
    assert len({listener.port for listener in world.fleet.listeners.held.values()}) == 1
    world.ask("scale", worker="a", count=1)
    # Its queue is its own, so it is taken before it closes.
    told = [world.told(each)[0] for each in world.retiring()]
    assert [(each["code"], each["drain"]) for each in told] == [(1012, True)] * 2
    assert len(world.fleet.listeners.held) == 1


def test_scaling_down_a_shared_listener_leaves_its_queue_to_the_others(world: World) -> None:
    world.start(declaration("a", listen="tcp://127.0.0.1:0", count=2))
    world.ask("scale", worker="a", count=1)
    told = [world.told(each)[0] for each in world.retiring()]
    assert [(each["code"], each["drain"]) for each in told] == [(1012, False)]
    assert len(world.fleet.listeners.held) == 1


def test_processes_are_told_how_many_are_wanted(world: World) -> None:
    world.start(declaration("a"))
    world.ask("connections", limit=20)
    assert world.told(*world.living()) == [{"do": "connections", "request": 1, "limit": 20}]
    assert "less than nothing" in world.ask("connections", limit=-1).extra["error"]


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
    assert world.fleet.exits[-1].reason == "killed by signal 11 (SIGSEGV)"


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
    assert [end.reason for end in world.fleet.exits] == [
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
    assert "did not turn" in world.fleet.exits[-1].reason
