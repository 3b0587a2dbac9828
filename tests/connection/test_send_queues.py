"""The rounds in which a process looks at what waits for its peers: how many at a time, and when not
at all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gworker.connection.send_queues import LONGEST_ROUND, SHORTEST_ROUND, SLICE, SendQueues
from gworker.ipc.scoreboard import Column, Scoreboard


class Peer:
    def __init__(self, unacknowledged: int = 0, status: str = "established") -> None:
        self.waiting = unacknowledged
        self.status = status
        self.looks = 0

    @property
    def unacknowledged(self) -> int:
        self.looks += 1
        return self.waiting


class Timer:
    period = 0.0

    def start(self, callback: Any) -> None:
        self.ring = callback

    def stop(self) -> None:
        self.ring = None


class House:
    """A process with these peers, whose clock is turned by hand."""

    def __init__(self, *peers: Peer, send_timeout: float = 60) -> None:
        self.watched: list[Peer] = []
        self.queued: list[Any] = []
        self.timer = Timer()
        board = Scoreboard(1)
        self.row = board.row(board.take())
        self.peers = list(peers)
        self.written = 1
        self.queues = SendQueues(
            SimpleNamespace(timer=self._timer),
            send_timeout,
            connections=lambda: list(self.peers),
            written=lambda: self.written,
            sending=self.watched.append,
            row=self.row,
            run_queue=SimpleNamespace(add=self.queued.append),  # type: ignore[arg-type]
        )
        self.queues.start()

    def _timer(self, after: float, repeat: float) -> Timer:
        assert after == repeat
        self.timer.period = repeat
        return self.timer

    def look(self) -> int:
        """One round; return in how many further turns."""
        self.timer.ring()
        turns = 0
        while self.queued:
            self.queued.pop()()
            turns += 1
        return turns

    @property
    def sum(self) -> int:
        return int(self.row[Column.SEND_QUEUE])


def test_who_has_not_acknowledged_all_is_under_the_deadline() -> None:
    fine, stuck, closing = Peer(), Peer(70), Peer(5, "closing")
    house = House(fine, stuck, closing)
    house.look()
    assert house.watched == [stuck]
    assert house.sum == 75


def test_many_are_looked_at_in_slices() -> None:
    peers = [Peer(1) for _ in range(3 * SLICE + 1)]
    house = House(*peers)
    assert house.look() == 3
    assert [each.looks for each in peers] == [1] * len(peers)
    assert house.sum == len(peers)


def test_a_round_does_not_begin_before_the_last_one_is_over() -> None:
    peers = [Peer(1) for _ in range(2 * SLICE)]
    house = House(*peers)
    house.timer.ring()
    house.timer.ring()
    assert len(house.queued) == 1


def test_nobody_is_looked_at_when_nothing_was_sent() -> None:
    peer = Peer(1)
    house = House(peer)
    house.look()
    house.look()
    assert peer.looks == 2, "something waited"
    peer.waiting = 0
    house.look()
    house.look()
    assert peer.looks == 3
    assert house.sum == 0
    house.written += 1
    house.look()
    assert peer.looks == 4


@pytest.mark.parametrize(
    ("send_timeout", "period"),
    [(60, LONGEST_ROUND), (20, 5), (0.1, SHORTEST_ROUND), (0, LONGEST_ROUND)],
)
def test_a_peer_is_found_within_a_quarter_of_the_deadline(
    send_timeout: float, period: float
) -> None:
    assert House(send_timeout=send_timeout).timer.period == period


def test_in_a_copy_of_the_process_no_connection_is_looked_at() -> None:
    house = House(*[Peer(1) for _ in range(2 * SLICE)])
    house.timer.ring()
    house.queues.stop()
    assert house.timer.ring is None
    house.queued.pop()()
    assert not house.queued
