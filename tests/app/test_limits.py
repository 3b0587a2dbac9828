"""Paces, rests and counts with invented time: who is too slow, who is not, and that nothing ticks
for nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gworker.connection.address_limit import AddressLimit, key_of
from gworker.connection.deadlines import BATCH, GRANULARITY, Deadlines
from gworker.connection.min_rate import NOT_PEERS_FAULT, MinRate


class Ticker:
    callback: Callable[[], None] | None = None

    def again(self, callback: Callable[[], None]) -> None:
        self.callback = callback

    start = again

    def stop(self) -> None:
        self.callback = None

    close = stop


class Course:
    """Peers, named by letters, and what each of them has done so far."""

    def __init__(self, seconds: float = 8, rate: float = 100) -> None:
        self.now = 1000.0
        self.period = 0.0
        self.ticker = Ticker()
        self.done: dict[str, int | None] = {"a": 0, "b": 0}
        self.slow: list[tuple[str, float]] = []
        self.pace = MinRate(
            self, seconds, rate, lambda who: self.done[who],
            lambda who: self.slow.append((who, self.now - 1000)), lambda: self.now,
        )  # fmt: skip

    def timer(self, after: float, repeat: float) -> Ticker:
        self.period = repeat
        return self.ticker

    def run(self, seconds: float, **rates: float) -> None:
        for _ in range(round(seconds / self.period)):
            self.now += self.period
            for who, rate in rates.items():
                self.done[who] = (self.done[who] or 0) + round(rate * self.period)
            if self.ticker.callback is not None:
                self.ticker.callback()


def test_who_does_nothing_is_too_slow_in_time() -> None:
    course = Course()
    course.pace.watch("a")
    course.run(20)
    assert course.slow == [("a", 8)]
    assert course.ticker.callback is None


def test_a_drip_is_too_slow_and_the_rate_is_not() -> None:
    course = Course()
    course.pace.watch("a")
    course.pace.watch("b")
    course.run(60, a=99, b=100)
    assert course.slow == [("a", 8)]


def test_a_burst_is_good_for_its_own_time_only() -> None:
    course = Course()
    course.pace.watch("a")
    course.run(4, a=1)
    course.run(2, a=100_000)
    course.run(20)
    assert course.slow == [("a", 14)]


def test_without_a_rate_any_byte_will_do() -> None:
    course = Course(rate=0)
    course.pace.watch("a")
    course.run(40, a=1)
    assert course.slow == []
    course.run(8)
    assert [who for who, _ in course.slow] == ["a"]


def test_time_that_is_not_its_fault_does_not_count() -> None:
    course = Course()
    course.pace.watch("a")
    course.run(6)
    course.done["a"] = NOT_PEERS_FAULT
    course.run(60)
    course.done["a"] = 0
    course.run(6)
    assert course.slow == []
    course.run(2)
    assert course.slow == [("a", 74)]


def test_who_has_nothing_to_do_is_forgotten() -> None:
    course = Course()
    course.pace.watch("a")
    course.done["a"] = None
    course.run(2)
    assert not course.pace.marks
    assert course.ticker.callback is None


def test_a_second_watch_wins_no_time_and_forget_ends_it() -> None:
    course = Course()
    course.pace.watch("a")
    course.run(6)
    course.pace.watch("a")
    course.run(2)
    assert course.slow == [("a", 8)]
    course.pace.watch("b")
    course.pace.forget("b")
    course.pace.forget("b")
    assert course.ticker.callback is None


def test_no_limit_is_no_look() -> None:
    course = Course(seconds=0)
    course.pace.watch("a")
    assert not course.pace.marks


def test_who_moves_takes_its_time_along() -> None:
    course, other = Course(), Course()
    course.pace.watch("a")
    course.run(6, a=10)
    behind = course.pace.save("a")
    assert behind == (0, 6.0)
    other.done["a"] = 60
    other.pace.restore("a", behind)
    other.run(20)
    assert other.slow == [("a", 2)]
    late = Course()
    late.pace.restore("a", (0, 100.0))
    late.run(4)
    assert late.slow == [("a", 2)]  # at the first look that leaves it the least time
    assert not late.pace.marks


# ---- deadlines in order


class Loop:
    def __init__(self) -> None:
        self.now = 0.0
        self.ticker = Ticker()
        self.soon = Ticker()

    def timer(self, after: float, repeat: float = 0) -> Ticker:
        if not repeat:
            self.soon = Ticker()
        return self.ticker if repeat else self.soon


def test_only_the_front_of_those_who_wait_is_looked_at() -> None:
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


def test_deadlines_of_different_lengths_and_of_those_who_came_from_elsewhere() -> None:
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


# ---- connections per address


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("192.0.2.1", 1), ("192.0.2.1", 2), True),
        (("192.0.2.1", 1), ("192.0.2.2", 1), False),
        (("2001:db8:0:1::1", 1, 0, 0), ("2001:db8:0:1:ffff::2", 2, 0, 0), True),
        (("2001:db8:0:1::1", 1, 0, 0), ("2001:db8:0:2::1", 1, 0, 0), False),
        (("::ffff:192.0.2.1", 1, 0, 0), ("192.0.2.1", 2), True),
        (("::ffff:192.0.2.1", 1, 0, 0), ("::ffff:192.0.2.2", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::2%eth0", 1, 0, 2), True),
    ],
)
def test_what_counts_as_one_address(one: Any, other: Any, same: bool) -> None:
    assert (key_of(one) == key_of(other)) is same


def test_counts_go_up_and_down_and_leave_nothing() -> None:
    crowd = AddressLimit(2)
    one, other = ("192.0.2.1", 1), ("192.0.2.2", 1)
    crowd.add(one)
    assert not crowd.is_full(one)
    crowd.add(one)
    assert crowd.is_full(one)
    assert not crowd.is_full(other)
    crowd.remove(one)
    assert not crowd.is_full(one)
    crowd.remove(one)
    assert crowd.counts == {}


@pytest.mark.parametrize("address", ["", b"\0name", None])
def test_unix_sockets_have_no_address(address: Any) -> None:
    crowd = AddressLimit(1)
    crowd.add(address)
    crowd.add(address)
    assert not crowd.is_full(address)
    crowd.remove(address)
    assert crowd.counts == {}
