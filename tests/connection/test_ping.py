"""Pings with invented time: which peers are asked, when, and what counts as an answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gworker.app.limits import Limits
from gworker.connection.ping import POLLS, PingTimer


class Peer:
    io = object()
    bytes_read = 0
    bytes_written = 0
    send_queue = 0
    can_ping = True
    has_expired = False

    def __init__(self, number: int) -> None:
        self.id = number
        self.asked = 0

    def probe(self) -> bool:
        self.asked += self.can_ping
        return self.can_ping

    def is_silent(self, read: int, written: int) -> bool:
        return self.bytes_read == read and written in (-1, self.bytes_written)

    def expire(self) -> None:
        self.has_expired = True


class House:
    def __init__(self, *peers: Peer, interval: float = 16, timeout: float = 20) -> None:
        self.now = 0.0
        self.timer: Any = SimpleNamespace(start=lambda step: None, stop=lambda: None)
        limits = Limits(ping_interval=interval, ping_timeout=timeout)
        loop: Any = SimpleNamespace(timer=self._timer)
        self.pings = PingTimer(
            loop, limits, lambda: list(peers), lambda step: step, lambda: self.now  # type: ignore[arg-type,return-value]
        )  # fmt: skip

    def _timer(self, after: float, repeat: float) -> Any:
        self.period = repeat
        return self.timer

    def round(self) -> None:
        for _ in range(self.pings.polls):
            self.now += self.period
            self.pings.poll()


def test_each_is_asked_once_per_interval() -> None:
    peers = [Peer(number) for number in range(40)]
    house = House(*peers)
    assert house.period * house.pings.polls == pytest.approx(16)
    assert house.pings.polls >= POLLS
    house.round()
    assert {each.asked for each in peers} == {1}
    house.round()
    assert {each.asked for each in peers} == {2}


def test_one_that_says_nothing_is_ended_in_time_and_no_other() -> None:
    silent, answers, cannot = Peer(0), Peer(0), Peer(0)
    cannot.can_ping = False
    house = House(silent, answers, cannot)
    house.round()
    answers.bytes_read += 2
    while house.now < 16 + 20 - house.period:
        house.now += house.period
        house.pings.poll()
        assert not silent.has_expired
    house.round()
    assert (silent.has_expired, answers.has_expired, cannot.has_expired) == (True, False, False)


def test_one_that_takes_what_was_queued_is_not_silent() -> None:
    takes, stuck = Peer(0), Peer(0)
    takes.send_queue = stuck.send_queue = 5
    house = House(takes, stuck)
    house.round()
    takes.bytes_written += 5
    for _ in range(3):
        house.round()
        takes.bytes_written += 1
    assert (takes.has_expired, stuck.has_expired) == (False, True)


def test_one_that_was_dialled_again_is_another_one() -> None:
    again = Peer(0)
    house = House(again)
    house.round()
    again.io = object()
    house.now += 20
    house.pings.poll()
    assert not again.has_expired


def test_without_a_timeout_no_answer_is_awaited() -> None:
    silent = Peer(0)
    house = House(silent, timeout=0)
    for _ in range(5):
        house.round()
    assert (silent.asked, silent.has_expired) == (5, False)
