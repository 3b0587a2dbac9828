"""Connections that rest, with invented time: which are closed, and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gworker.app.limits import Limits
from gworker.connection.idle_timeout import IdleTimeout
from gworker.connection.open_connections import OpenConnections


class Peer:
    status = "established"
    bytes_read = 0
    idle_mark: tuple[int, float] | None = None
    is_idle = True
    is_held = False
    is_resting = False
    unfinished: int | None = None

    def __init__(self, number: int) -> None:
        self.id = number
        self.closed: list[int] = []

    def close(self, data: object = None, code: int = 1000, reason: str = "") -> None:
        self.closed.append(code)
        self.status = "closing"


class House:
    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *peers: Peer, keeps_alive: bool = True, **limits: Any
    ) -> None:
        self.now, self.step = 100.0, None
        monkeypatch.setattr(
            "gworker.connection.idle_timeout.time", SimpleNamespace(monotonic=lambda: self.now)
        )
        connections = OpenConnections({each.id: each for each in peers})
        loop: Any = SimpleNamespace(timer=self._timer)
        unlimited = {"keep_alive": 0, **limits}
        self.idle = IdleTimeout(loop, Limits(**unlimited), connections, lambda step: step)  # type: ignore[arg-type,return-value]
        self.idle.start(keeps_alive)

    def _timer(self, after: float, repeat: float) -> Any:
        self.turn = repeat
        return SimpleNamespace(start=self._start, stop=lambda: None, close=lambda: None)

    def _start(self, step: Any) -> None:
        self.step = step

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += self.turn
            self.step()  # type: ignore[misc]


def test_without_a_limit_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert House(monkeypatch, Peer(1)).step is None
    assert House(monkeypatch, Peer(1), keeps_alive=False, keep_alive=5).step is None


def test_a_silent_one_is_closed_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    silent, speaks, busy, held = (Peer(number) for number in range(4))
    busy.is_idle, held.is_held = False, True
    house = House(monkeypatch, silent, speaks, busy, held, idle_timeout=10)
    for _ in range(4):
        house.run(2.4)
        speaks.bytes_read += 1
    assert not silent.closed
    house.run(2.5)
    assert [each.closed for each in (silent, speaks, busy, held)] == [[1000], [], [], []]


def test_between_two_requests_the_shorter_time_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    rests, other = Peer(1), Peer(2)
    rests.is_resting = True
    house = House(monkeypatch, rests, other, idle_timeout=10, keep_alive=4)
    house.run(5.5)
    assert (rests.closed, other.closed) == ([1000], [])


def test_a_message_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    endless, many = Peer(1), Peer(2)
    endless.unfinished = many.unfinished = 0
    house = House(monkeypatch, endless, many, message_timeout=4)
    for _ in range(6):
        house.run(0.9)
        many.unfinished += 1  # type: ignore[operator]
    assert (endless.closed, many.closed) == ([1008], [])
    many.unfinished = None
    house.run(1.1)
    assert many.id not in house.idle.messages
    house.idle.forget(endless)
    assert house.idle.messages == {}


def test_what_was_known_of_one_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Peer(1)
    house = House(monkeypatch, one, idle_timeout=10, message_timeout=20)
    assert house.idle.save(one) is None
    one.idle_mark, house.idle.messages[1] = (0, 97.0), (5, 95.0)
    assert house.idle.save(one) == (3.0, 5.0)
    one.bytes_read = 1
    assert house.idle.save(one) == (None, 5.0), "it has spoken since"
    house.idle.restore(one, (6.0, 90.0))
    assert one.idle_mark == (1, 94.0)
    assert house.idle.messages[1] == (None, 80.5), "it has at least a moment"
