"""By how much an event loop is late: what a process writes down, and what the arbiter makes of
it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gworker.ipc.heartbeat import SECONDS, WINDOW, Beat, lag
from gworker.ipc.scoreboard import Scoreboard


class Loop:
    """An event loop that is held when a test says so. Its clock starts at 1000 s."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []

    def __call__(self) -> float:
        return self.now

    def update_now(self) -> None:
        pass

    def timer(self, after: float) -> Timer:
        assert after > 0
        return Timer(self, after)

    def hold(self, seconds: float) -> None:
        """One turn that takes so long; what fell due is done at its end."""
        self.now += seconds
        for timer in [each for each in self.timers if each.at <= self.now]:
            self.timers.remove(timer)
            timer.callback()

    def run(self, seconds: float) -> None:
        """Turn quickly for so long."""
        for _ in range(round(seconds / 0.01)):
            self.hold(0.01)


class Timer:
    def __init__(self, loop: Loop, after: float) -> None:
        self.loop, self.at = loop, loop.now + after

    def start(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.loop.timers.append(self)

    def stop(self) -> None:
        if self in self.loop.timers:
            self.loop.timers.remove(self)

    def close(self) -> None:
        pass


class Process:
    def __init__(self) -> None:
        self.loop = Loop()
        board = Scoreboard(1)
        self.row = board.row(board.take())
        self.beats = 0
        self.beat = Beat(self.loop, self.row, self._count, self.loop)
        self.beat.start()

    def _count(self) -> None:
        self.beats += 1

    @property
    def lag(self) -> float:
        return lag(self.row, self.loop.now)


@pytest.fixture
def process() -> Process:
    return Process()


def test_a_loop_that_turns_is_not_late(process: Process) -> None:
    process.loop.run(10)
    assert process.lag < 0.02
    assert 19 <= process.beats <= 20


@pytest.mark.parametrize("seconds", [0.07, 0.2, 0.3, 0.7, 1.3, 3.0])
def test_a_loop_that_is_always_held_is_late_in_every_sample(
    process: Process, seconds: float
) -> None:
    samples = []
    while process.loop.now < 1060:
        process.loop.hold(seconds)
        if process.loop.now > 1010:
            samples.append(process.lag)
    assert min(samples) > seconds / 3
    assert max(samples) <= seconds + 0.001


def test_the_most_of_the_last_seconds_counts(process: Process) -> None:
    process.loop.run(3)
    process.loop.hold(2)
    process.loop.run(1)
    process.loop.hold(1)
    assert 2 - SECONDS <= process.lag <= 2
    process.loop.run(WINDOW - 2)
    assert 2 - SECONDS <= process.lag <= 2
    process.loop.run(1.1)
    assert 1 - SECONDS <= process.lag <= 1, "the longer one is too long ago"
    process.loop.run(WINDOW)
    assert process.lag < 0.02


def test_one_that_is_held_now_shows_since_when(process: Process) -> None:
    process.loop.run(3)
    process.loop.now += 4
    assert 4 <= process.lag <= 4 + SECONDS
    process.loop.now += 0.5
    assert 4.5 <= process.lag <= 4.5 + SECONDS


def test_beats_that_were_missed_are_not_made_up_for(process: Process) -> None:
    process.loop.hold(10.2)
    assert process.beats == 1
    process.loop.run(1)
    assert process.beats == 3


def test_what_was_before_it_started_anew_does_not_count(process: Process) -> None:
    process.loop.now += 30
    process.beat.start()
    assert process.lag < 0.01
    process.loop.run(2)
    assert process.lag < 0.02
    assert len(process.loop.timers) == 1


def test_in_a_copy_of_the_process_it_stops(process: Process) -> None:
    process.beat.stop()
    assert not process.loop.timers


def test_what_is_remembered_is_bounded(process: Process) -> None:
    late: Any = process.beat._late
    for _ in range(1000):
        process.loop.hold(0.2)
    assert len(late) < 3 * WINDOW / SECONDS
