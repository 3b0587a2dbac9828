"""The minimum rate with invented time: which are too slow, which are not, and that nothing ticks
for none."""

from __future__ import annotations

from ticker import Ticker

from gworker.connection.min_rate import NOT_PEERS_FAULT, MinRate


class Course:
    """Peers, named by letters, and what each of them has done so far."""

    def __init__(self, seconds: float = 8, rate: float = 100) -> None:
        self.now = 1000.0
        self.period = 0.0
        self.ticker = Ticker()
        self.done: dict[str, int | None] = {"a": 0, "b": 0}
        self.slow: list[tuple[str, float]] = []
        self.rate = MinRate(
            self, seconds, rate, lambda peer: self.done[peer],
            lambda peer: self.slow.append((peer, self.now - 1000)), lambda: self.now,
        )  # fmt: skip

    def timer(self, after: float, repeat: float) -> Ticker:
        self.period = repeat
        return self.ticker

    def run(self, seconds: float, **rates: float) -> None:
        for _ in range(round(seconds / self.period)):
            self.now += self.period
            for peer, rate in rates.items():
                self.done[peer] = (self.done[peer] or 0) + round(rate * self.period)
            if self.ticker.callback is not None:
                self.ticker.callback()


def test_who_does_nothing_is_too_slow_in_time() -> None:
    course = Course()
    course.rate.watch("a")
    course.run(20)
    assert course.slow == [("a", 8)]
    assert course.ticker.callback is None


def test_a_drip_is_too_slow_and_the_rate_is_not() -> None:
    course = Course()
    course.rate.watch("a")
    course.rate.watch("b")
    course.run(60, a=99, b=100)
    assert course.slow == [("a", 8)]


def test_a_burst_is_good_for_its_own_time_only() -> None:
    course = Course()
    course.rate.watch("a")
    course.run(4, a=1)
    course.run(2, a=100_000)
    course.run(20)
    assert course.slow == [("a", 14)]


def test_without_a_rate_any_byte_will_do() -> None:
    course = Course(rate=0)
    course.rate.watch("a")
    course.run(40, a=1)
    assert course.slow == []
    course.run(8)
    assert [peer for peer, _ in course.slow] == ["a"]


def test_time_that_is_not_its_fault_does_not_count() -> None:
    course = Course()
    course.rate.watch("a")
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
    course.rate.watch("a")
    course.done["a"] = None
    course.run(2)
    assert not course.rate.marks
    assert course.ticker.callback is None


def test_a_second_watch_wins_no_time_and_forget_ends_it() -> None:
    course = Course()
    course.rate.watch("a")
    course.run(6)
    course.rate.watch("a")
    course.run(2)
    assert course.slow == [("a", 8)]
    course.rate.watch("b")
    course.rate.forget("b")
    course.rate.forget("b")
    assert course.ticker.callback is None


def test_no_limit_is_no_look() -> None:
    course = Course(seconds=0)
    course.rate.watch("a")
    assert not course.rate.marks


def test_who_moves_takes_its_time_along() -> None:
    course, other = Course(), Course()
    course.rate.watch("a")
    course.run(6, a=10)
    behind = course.rate.save("a")
    assert behind == (0, 6.0)
    other.done["a"] = 60
    other.rate.restore("a", behind)
    other.run(20)
    assert other.slow == [("a", 2)]
    late = Course()
    late.rate.restore("a", (0, 100.0))
    late.run(4)
    assert late.slow == [("a", 2)]  # at the first look that leaves it the least time
    assert not late.rate.marks


# ---- deadlines in order


# ---- connections per address
