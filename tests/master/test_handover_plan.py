"""Which process gives to which: which retire, which take over, what is counted, and what a reload
cannot move."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import FakeCall, World, declaration

from gworker.ipc.scoreboard import Column
from gworker.master.slots import Process

REPLACED = {"do": "retire", "code": 1012, "drain": False, "reload": True}
REMOVED = {"do": "retire", "code": 1012, "drain": False, "reload": False, "handover": True}
STOPPED = {"do": "retire", "code": 1001, "drain": True, "reload": False, "handover": False}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path)
    yield one
    one.close()


def moving(**fields: Any) -> Any:
    return declaration("a", **{"count": 1, "migration_obstacle": "", "speaks": "text", **fields})


def heard(world: World, process: Process) -> list[dict[str, Any]]:
    told = [each for each in world.told(process) if each["do"] != "count"]
    return [{key: value for key, value in each.items() if key != "seconds"} for each in told]


def reload(world: World, **fields: Any) -> tuple[Process, Process]:
    """One process and its successor, which has just become ready."""
    (old,) = world.living()
    old.row[Column.CONNECTIONS] = 7
    world.told(old)
    world.reload()
    world.declare(moving(**fields))
    (new,) = world.booting()
    world.ready(new)
    return old, new


def test_the_successor_takes_over_and_the_reload_waits_for_it(world: World) -> None:
    world.start(moving())
    old, new = reload(world)
    assert heard(world, old) == [{"do": "survey"}, REPLACED | {"handover": True}]
    assert heard(world, new) == [{"do": "takeover", "expected": 7}]
    assert world.instance.state == "reloading"
    old.row[Column.HANDED_OVER], old.row[Column.TURNED_AWAY] = 5, 1
    world.hand_over(old)
    assert world.instance.state == "running"
    old.row[Column.HANDED_OVER] = 6
    assert world.fleet.handovers.counts() == (6, 1), "busy ones follow later"
    world.die(old)
    assert world.fleet.handovers.counts() == (6, 1)


def test_the_reload_ends_with_a_sender_that_dies(world: World) -> None:
    world.start(moving())
    old, _ = reload(world)
    world.die(old, 9)
    assert world.instance.state == "running"


@pytest.mark.parametrize(
    "fields",
    [{"speaks": "frame"}, {"migration_obstacle": "TLS"}, {"user": "nobody"}, {"group": "nogroup"}],
    ids=lambda fields: next(iter(fields)),
)
def test_a_process_of_another_version_or_worker_takes_nothing(
    world: World, fields: dict[str, Any]
) -> None:
    world.start(moving())
    old, new = reload(world, **fields)
    assert heard(world, old) == [REPLACED | {"handover": False}]
    assert heard(world, new) == []
    world.hand_over(old)
    assert world.instance.state == "running"


def test_a_successor_that_dies_is_followed_by_another(world: World) -> None:
    world.start(moving())
    old, new = reload(world)
    world.told(old)
    world.die(new, 9)
    world.sleep(1)
    (third,) = world.booting()
    world.ready(third)
    assert heard(world, old) == [{"do": "handover"}]
    assert heard(world, third)[0]["do"] == "takeover"


def test_siblings_share_what_a_slot_leaves(world: World) -> None:
    world.start(moving(count=3))
    processes = sorted(world.living(), key=lambda each: each.id)
    for process, connections in zip(processes, (40, 10, 20), strict=True):
        process.row[Column.CONNECTIONS] = connections
    world.instance.scale("a", 2)
    assert heard(world, processes[2]) == [REMOVED]
    assert (
        heard(world, processes[0])
        == heard(world, processes[1])
        == [{"do": "takeover", "expected": 10}]
    )


def test_no_process_takes_over_at_a_stop(world: World) -> None:
    world.start(moving(count=2))
    processes = world.living()
    world.instance.stop()
    assert [heard(world, each) for each in processes] == [[STOPPED]] * 2


def test_counts_begin_anew_with_each_reload(world: World) -> None:
    world.start(moving())
    old, _ = reload(world)
    old.row[Column.HANDED_OVER] = 5
    world.hand_over(old)
    world.die(old)
    old, _ = reload(world)
    assert world.fleet.handovers.counts() == (0, 0)
    old.row[Column.HANDED_OVER] = 3
    world.hand_over(old)
    assert world.fleet.handovers.counts() == (3, 0)


def test_the_last_reload_is_shown_while_the_next_goes_on(world: World) -> None:
    world.start(moving())
    old, _ = reload(world)
    old.row[Column.HANDED_OVER] = 5
    world.hand_over(old)
    assert world.instance.rollouts.report()["handed_over"] == 5
    old.row[Column.HANDED_OVER] = 6
    old.row[Column.TURNED_AWAY] = 2
    world.die(old)
    world.reload()
    shown = world.instance.rollouts.report()
    assert (shown["ok"], shown["handed_over"], shown["closed"]) == (True, 6, 2)
    world.fail(world.probe)
    shown = world.instance.rollouts.report()
    assert (shown["ok"], shown["handed_over"], shown["closed"]) == (False, 0, 0)


def test_a_process_that_retires_between_reloads_does_not_count(world: World) -> None:
    world.start(moving())
    (old,) = world.living()
    world.say(old, event="replace", reason="")
    (new,) = world.booting()
    world.ready(new)
    assert heard(world, old)[0]["handover"] is True
    old.row[Column.HANDED_OVER] = 9
    assert world.fleet.handovers.counts() == (0, 0)


def test_a_reload_does_not_wait_for_a_process_that_hangs(world: World) -> None:
    world.start(moving())
    old, _ = reload(world)
    world.hanging = frozenset([old])
    world.sleep(2)
    assert world.instance.state == "reloading"
    world.sleep(2)
    assert world.instance.state == "running"
    world.hand_over(old, TLS=1)  # it has woken up


def test_what_a_process_says_of_its_connections_is_looked_at(world: World) -> None:
    world.start(moving())
    old, _ = reload(world)
    world.hand_over(old, TLS=-1, many=True, **{"x" * 300: 1})  # type: ignore[arg-type]
    assert world.instance.state == "running"


# ---- what cannot move: asked before anything retires, told once


def cannot_move(call: FakeCall) -> list[str]:
    """What the reload says of connections that stay, in order."""
    return [step for step in call.steps if " cannot move: " in step]


def test_what_cannot_move_is_told_as_one_sum_before_anything_retires(world: World) -> None:
    world.start(moving(count=2), declaration("b", count=1, migration_obstacle=""))
    call = world.reload()
    world.declare(moving(count=2), declaration("b", count=1, migration_obstacle=""))
    first, second, other = (each for each in world.living() if each.generation == 1)
    world.say(first, event="survey", staying={"TLS": 150, "own callbacks": 1})
    world.say(second, event="survey", staying={"TLS": 150})
    assert cannot_move(call) == []
    world.say(other, event="survey", staying={"TLS": 7})
    told = [
        "307 connections cannot move: TLS (a, b)",
        "1 connection cannot move: own callbacks (a)",
    ]
    assert cannot_move(call) == told
    assert {each.state.value for each in (first, second, other)} == {"ready"}
    world.ready(*world.booting())
    world.hand_over(first, TLS=150)
    assert cannot_move(call) == told, "each is told once"


def test_a_reload_does_not_wait_for_an_answer(world: World) -> None:
    world.start(moving(count=2))
    call = world.reload()
    world.declare(moving(count=2))
    first, second = (each for each in world.living() if each.generation == 1)
    world.say(first, event="survey", staying={"TLS": 3})
    world.ready(*world.booting())
    assert cannot_move(call) == ["3 connections cannot move: TLS (a)"]
    assert first.state.value == "retiring"
    world.say(second, event="survey", staying={"TLS": 4})
    assert cannot_move(call)[1:] == ["4 connections cannot move: TLS (a)"]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("", "on_close without on_takeover", "on_close without on_takeover"),
        ("handover=False", "on_close without on_takeover", "on_close without on_takeover"),
        ("", None, "the Worker is gone"),
    ],
)
def test_what_the_new_code_does_not_take_is_known_without_asking(
    world: World, before: str, after: str | None, reason: str
) -> None:
    world.start(moving(migration_obstacle=before), declaration("b", count=1))
    old = next(each for each in world.living() if each.worker == "a")
    old.row[Column.CONNECTIONS] = 300
    world.told(old)
    call = world.reload()
    world.declare(
        *[moving(migration_obstacle=after)] * (after is not None), declaration("b", count=1)
    )
    assert heard(world, old) == []
    while world.booting():
        world.ready(*world.booting())
    world.hand_over(old, TLS=300)  # which is true, too
    assert cannot_move(call) == [f"300 connections cannot move: {reason} (a)"]


def test_what_shows_only_when_it_is_packed_is_told_by_the_process(world: World) -> None:
    world.start(moving())
    call = world.reload()
    world.declare(moving())
    (old,) = (each for each in world.living() if each.generation == 1)
    world.say(old, event="survey", staying={"TLS": 1})
    world.ready(*world.booting())
    world.hand_over(old, **{"TLS": 1, "a context that cannot be pickled": 2})
    assert cannot_move(call) == [
        "1 connection cannot move: TLS (a)",
        "2 connections cannot move: a context that cannot be pickled (a#0)",
    ]
    assert call.exit == 0
