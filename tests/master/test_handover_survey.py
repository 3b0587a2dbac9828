"""Which connections a reload cannot move: asked before anything retires, told once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from world import FakeCall, World, declaration

from gworker.ipc.scoreboard import Column
from gworker.master.slots import Process

MakeWorld = Callable[..., World]
TCP = "tcp://127.0.0.1:0"


def moving(**fields: Any) -> Any:
    return declaration("a", **{"count": 1, "migration_obstacle": "", "speaks": "text", **fields})


def heard(world: World, process: Process) -> list[dict[str, Any]]:
    told = [each for each in world.told(process) if each["do"] != "count"]
    return [{key: value for key, value in each.items() if key != "seconds"} for each in told]


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
