"""Deadlines with a fake loop: which are in time, which are late, and that nothing ticks when none
waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ticker import Ticker

from gworker.connection.deadlines import BATCH, GRANULARITY, PAUSE, Deadlines


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
        assert after == repeat
        return self.ticker if after == GRANULARITY else FakeTimer()

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


def test_one_that_was_forgotten_begins_anew(world: World) -> None:
    for _ in range(4):
        world.deadlines.forget("a")  # type: ignore[arg-type]
        world.deadlines.set("a", 1)  # type: ignore[arg-type]
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


def test_the_timer_runs_only_while_something_is_due(world: World) -> None:
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


def test_one_that_is_late_may_release_or_condemn_others() -> None:
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


class Loop:
    def __init__(self) -> None:
        self.now = 0.0
        self.ticker = Ticker()
        self.soon = Ticker()

    def timer(self, after: float, repeat: float) -> Ticker:
        return self.soon if after == PAUSE else self.ticker


def test_only_the_front_of_the_queue_is_looked_at() -> None:
    loop = Loop()
    looked = 0

    class Due(float):
        def __le__(self, other: float) -> bool:
            nonlocal looked
            looked += 1
            return float(self) <= other

        __gt__ = lambda self, other: not self <= other  # noqa: E731

    late: list[Any] = []
    deadlines = Deadlines(loop, late.append, lambda: Due(loop.now))
    for number in range(1000):
        deadlines.set(number, 10)
    for queue in deadlines._queues.values():
        for peer in queue:
            queue[peer] = Due(queue[peer])
    loop.now = 5.0
    deadlines._check()
    assert looked <= 2
    loop.now = 10.0
    deadlines._check()
    assert late == list(range(BATCH))
    while loop.soon.callback is not None:
        loop.soon.callback()
    assert late == list(range(1000))
    assert loop.ticker.callback is None


def test_deadlines_of_different_lengths_and_of_those_that_came_from_elsewhere() -> None:
    loop = Loop()
    late: list[Any] = []
    deadlines = Deadlines(loop, late.append, lambda: loop.now)
    deadlines.set("long", 10)
    deadlines.set("short", 1)
    deadlines.restore("moved", 3)
    deadlines.restore("moved sooner", 2)
    assert deadlines.save("moved") == 3
    seen = []
    for _ in range(48):
        loop.now += GRANULARITY
        deadlines._check()
        seen.append((loop.now, list(late)))
    ends = {who: next(at for at, names in seen if who in names) for who in late}
    assert ends == {"short": 1.0, "moved sooner": 2.0, "moved": 3.0, "long": 10.0}
    assert deadlines.due == {}
    assert loop.ticker.callback is None
