"""Deadlines with a fake loop: who is in time, who is late, and that nothing ticks when nobody
waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gworker.connection.deadlines import GRANULARITY, Deadlines


class FakeTimer:
    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None

    def again(self, callback: Callable[[], None]) -> None:
        self.callback = callback

    def stop(self) -> None:
        self.callback = None


class FakeLoop:
    def __init__(self) -> None:
        self.time = 1000.0
        self.ticker = FakeTimer()

    def now(self) -> float:
        return self.time

    def timer(self, after: float, repeat: float) -> FakeTimer:
        assert after == repeat == GRANULARITY
        return self.ticker

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / GRANULARITY)):
            self.time += GRANULARITY
            if self.ticker.callback is not None:
                self.ticker.callback()


class World:
    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.late: list[Any] = []
        self.deadlines = Deadlines(self.loop, self.late.append, self.loop.now)


@pytest.fixture
def world() -> World:
    return World()


def test_nobody_is_late_before_the_time(world: World) -> None:
    world.deadlines.set("a", 2)  # type: ignore[arg-type]
    world.loop.pass_time(1.75)
    assert world.late == []
    world.loop.pass_time(0.25 + GRANULARITY)
    assert world.late == ["a"]


def test_late_is_said_once(world: World) -> None:
    world.deadlines.set("a", 1)  # type: ignore[arg-type]
    world.loop.pass_time(5)
    assert world.late == ["a"]
    assert "a" not in world.deadlines.due


def test_a_second_set_does_not_move_the_deadline(world: World) -> None:
    world.deadlines.set("a", 1)  # type: ignore[arg-type]
    world.loop.pass_time(0.75)
    world.deadlines.set("a", 1)  # type: ignore[arg-type]
    world.loop.pass_time(0.5)
    assert world.late == ["a"]


def test_extend_does(world: World) -> None:
    for _ in range(4):
        world.deadlines.extend("a", 1)  # type: ignore[arg-type]
        world.loop.pass_time(0.75)
    assert world.late == []
    world.loop.pass_time(0.5)
    assert world.late == ["a"]


def test_clear_releases(world: World) -> None:
    world.deadlines.set("a", 1)  # type: ignore[arg-type]
    assert "a" in world.deadlines.due
    world.deadlines.forget("a")  # type: ignore[arg-type]
    world.deadlines.forget("a")  # type: ignore[arg-type]
    world.loop.pass_time(5)
    assert world.late == []


@pytest.mark.parametrize("seconds", [0, -1])
def test_no_limit_is_no_deadline(world: World, seconds: float) -> None:
    world.deadlines.set("a", seconds)  # type: ignore[arg-type]
    assert "a" not in world.deadlines.due
    assert world.loop.ticker.callback is None


def test_the_timer_runs_only_while_somebody_waits(world: World) -> None:
    ticker = world.loop.ticker
    assert ticker.callback is None
    world.deadlines.set("a", 1)  # type: ignore[arg-type]
    world.deadlines.set("b", 1)  # type: ignore[arg-type]
    world.deadlines.forget("a")  # type: ignore[arg-type]
    assert ticker.callback is not None
    world.deadlines.forget("b")  # type: ignore[arg-type]
    assert ticker.callback is None
    world.deadlines.set("c", 1)  # type: ignore[arg-type]
    world.loop.pass_time(2)
    assert world.late == ["c"]
    assert ticker.callback is None


def test_one_who_is_late_may_release_or_condemn_others() -> None:
    loop = FakeLoop()
    late = []

    def expired(who: Any) -> None:
        late.append(who)
        if who == "a":
            deadlines.forget("b")  # type: ignore[arg-type]
            deadlines.set("c", 1)  # type: ignore[arg-type]

    deadlines = Deadlines(loop, expired, loop.now)
    deadlines.set("a", 1)  # type: ignore[arg-type]
    deadlines.set("b", 3)  # type: ignore[arg-type]
    loop.pass_time(1.25)
    assert late == ["a"]
    loop.pass_time(5)
    assert late == ["a", "c"]


def test_one_released_by_another_in_the_same_round_is_not_late() -> None:
    loop = FakeLoop()
    late = []

    def expired(who: Any) -> None:
        late.append(who)
        deadlines.forget("b" if who == "a" else "a")  # type: ignore[arg-type]

    deadlines = Deadlines(loop, expired, loop.now)
    deadlines.set("a", 1)  # type: ignore[arg-type]
    deadlines.set("b", 1)  # type: ignore[arg-type]
    loop.pass_time(3)
    assert late == ["a"]
