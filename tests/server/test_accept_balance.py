"""Sharing a listener: none piles up connections, one always accepts, and none waits for
the dead."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gworker.ipc.scoreboard import WORDS, Column, Row, Scoreboard
from gworker.server import accept_balance as module
from gworker.server.accept_balance import (
    ALONE,
    HANGS_SECONDS,
    PATIENCE,
    PAUSE,
    REFRESH_SECONDS,
    SLACK,
    AcceptBalance,
)

INODE = 4711


class Timer:
    """As gevent's, fired by hand."""

    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None

    def again(self, callback: Callable[[], None]) -> None:
        self.callback = callback

    def stop(self) -> None:
        self.callback = None


class Loop:
    def timer(self, after: float, repeat: float) -> Timer:
        assert after == repeat == PAUSE
        return Timer()


class House:
    """Processes that share a listener, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        self.board = Scoreboard(16)
        self.queue, self.client = socket.socketpair()
        self.numbers: list[int] = []

    def process(self, listener: int = INODE) -> tuple[AcceptBalance, Row]:
        self.numbers.append(self.board.take())
        row = self.board.row(self.numbers[-1])
        row[Column.BEAT] = int(self.now * 1e9)
        made = AcceptBalance(self.board, row, listener, self.queue.fileno(), Loop())
        made.open()
        return made, row

    def pass_time(self, seconds: float, hanging: int | None = None) -> None:
        """Every process goes on beating, but the one that is `hanging`."""
        self.now += seconds
        for position, number in enumerate(self.numbers):
            if position != hanging:
                self.board.row(number)[Column.BEAT] = int(self.now * 1e9)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    made = House(monkeypatch)
    yield made
    made.queue.close()
    made.client.close()


@pytest.mark.parametrize(
    ("processes", "connections", "ratio"),
    [(2, 1000, 1.1), (4, 10_000, 1.1), (8, 10_000, 1.1), (4, 400, 1.12)],
)
def test_they_end_up_even_whichever_is_quickest(
    house: House, processes: int, connections: int, ratio: float
) -> None:
    crowd = [house.process() for _ in range(processes)]
    chance = random.Random(1)
    for _ in range(connections):
        house.pass_time(0.001)
        # Those at the front are woken first nearly always.
        order = crowd if chance.random() < 0.9 else chance.sample(crowd, processes)
        taker = next((row for one, row in order if one.allowance()), None)
        assert taker is not None, "all of them pause"
        taker[Column.CONNECTIONS] += 1
    counts = [row[Column.CONNECTIONS] for _, row in crowd]
    assert sum(counts) == connections
    assert max(counts) / min(counts) <= ratio


def test_few_connections_are_taken_by_the_first_process_that_comes(house: House) -> None:
    (first, row), _ = house.process(), house.process()
    for _ in range(SLACK + 1):
        assert first.allowance() == 1
        row[Column.CONNECTIONS] += 1
    assert first.allowance() == 0


def test_alone_it_takes_many_at_a_time_whatever_it_has(house: House) -> None:
    one, row = house.process()
    row[Column.CONNECTIONS] = 5000
    house.process(listener=INODE + 1)
    assert one.allowance() == ALONE
    house.process()
    house.pass_time(REFRESH_SECONDS)
    assert one.allowance() == 0, "and no more when a second one comes"


@pytest.mark.parametrize("what", ["full", "hanging", "dead", "retired and replaced"])
def test_a_process_that_does_not_accept_does_not_count(house: House, what: str) -> None:
    (one, row), (other, _), (_, busy) = house.process(), house.process(), house.process()
    row[Column.CONNECTIONS] = busy[Column.CONNECTIONS] = 100
    assert one.allowance() == 0
    if what == "hanging":
        house.pass_time(HANGS_SECONDS + REFRESH_SECONDS, hanging=1)
    elif what == "dead":
        house.board.give_back(house.numbers[1])
    else:
        other.close()
    house.pass_time(REFRESH_SECONDS, hanging=1)
    assert one.allowance() == 1
    if what in ("full", "hanging"):
        other.open()
        house.pass_time(REFRESH_SECONDS)
        assert one.allowance() == 0, "it is back"


def test_it_comes_back_as_soon_as_the_queue_is_empty(house: House) -> None:
    (one, row), _ = house.process(), house.process()
    row[Column.CONNECTIONS] = 100
    assert one.allowance() == 0
    said: list[bool] = []
    house.client.send(b"x")
    one.pause(said.append)
    timer: Any = one._timer
    house.pass_time(PAUSE)
    timer.callback()
    assert timer.callback is not None
    assert said == [], "a connection waits, and it is for the other to take it"
    house.queue.recv(1)
    house.pass_time(PAUSE)
    timer.callback()
    assert timer.callback is None
    assert said == [False]


def test_it_takes_what_no_other_does(house: House) -> None:
    (one, row), _ = house.process(), house.process()
    row[Column.CONNECTIONS] = 100
    assert one.allowance() == 0
    said: list[bool] = []
    house.client.send(b"x")
    one.pause(said.append)
    timer: Any = one._timer
    begin = house.now
    while not said:
        house.pass_time(PAUSE)
        timer.callback()
    assert said == [True]
    assert house.now - begin == pytest.approx(PATIENCE, abs=2 * PAUSE)


def test_it_comes_back_when_the_others_have_caught_up(house: House) -> None:
    (one, row), (_, other) = house.process(), house.process()
    row[Column.CONNECTIONS] = 100
    assert one.allowance() == 0
    said: list[bool] = []
    house.client.send(b"x")
    one.pause(said.append)
    other[Column.CONNECTIONS] = 95
    house.pass_time(PAUSE)
    timer: Any = one._timer
    timer.callback()
    assert said == [False]


def test_one_that_leaves_while_it_stands_aside_does_not_come_back(house: House) -> None:
    (one, row), _ = house.process(), house.process()
    row[Column.CONNECTIONS] = 100
    one.pause(lambda _: pytest.fail("it has left"))
    one.close()
    timer: Any = one._timer
    assert timer.callback is None
    assert row[Column.LISTENER] == 0


def test_looking_around_costs_little_however_many_rows_there_are() -> None:
    """And touches no page of the table that was never in use."""
    board = Scoreboard()
    rows = [board.row(board.take()) for _ in range(3)]
    rows[1][Column.LISTENER] = INODE
    assert [row.tolist() for row in board.rows_with(Column.LISTENER, INODE)] == [rows[1].tolist()]
    (found,) = board.rows_with(Column.LISTENER, INODE)
    found[Column.CONNECTIONS] = 5
    assert rows[1][Column.CONNECTIONS] == 5, "live"
    begin = time.process_time()
    for _ in range(1000):
        board.rows_with(Column.LISTENER, INODE)
    assert time.process_time() - begin < 1
    assert len(board._map) >= 4096 * WORDS * 8
