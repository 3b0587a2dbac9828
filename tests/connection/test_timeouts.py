"""The door to the timeouts: what a peer owes, what it has used of its time, what ends with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.connection.registry import Registry
from gworker.connection.timeouts import Timeouts
from gworker.ipc.scoreboard import Scoreboard


class Peer:
    """A connection as the timeouts see it."""

    id = 1
    status = "established"
    bytes_read = 10
    idle_mark: tuple[int, float] | None = None
    body_progress: int | None = 10
    taken: int | None = 0
    unacknowledged = 0


@pytest.fixture
def timeouts() -> Iterator[Timeouts]:
    board = Scoreboard(1)
    limits = Limits(header_timeout=10, handshake_timeout=20, send_timeout=30, message_timeout=40)
    registry = Registry(limits, board.row(board.take()), [])
    made = Timeouts(get_hub().loop, limits, registry, lambda step: step)
    yield made
    made.stop()


def test_what_a_peer_owes_has_its_own_time(timeouts: Timeouts) -> None:
    one, other = Peer(), Peer()
    timeouts.expect(one, "header")
    timeouts.expect(other, "handshake")
    timeouts.expect(other, "handshake")
    left = [timeouts.save(each)["deadline"] for each in (one, other)]
    assert [round(each) for each in left] == [10, 20]
    timeouts.expect(one, "body")
    timeouts.expect(other, "")
    assert not timeouts.pending
    assert list(timeouts.save(one)) == ["body"]
    assert timeouts.save(other) == {}


def test_only_a_peer_under_a_deadline_gets_it_anew(timeouts: Timeouts) -> None:
    one, other = Peer(), Peer()
    timeouts.expect(one, "header")
    timeouts.deadlines.forget(one)
    timeouts.restore(one, {"deadline": 3.0})
    for each in (one, other):
        timeouts.restart(each, "header")
    assert round(timeouts.save(one)["deadline"]) == 10
    assert other not in timeouts.pending


def test_what_was_used_of_the_time_moves(timeouts: Timeouts) -> None:
    one = Peer()
    saved: dict[str, Any] = {
        "deadline": 3.0, "sending": (5, 4.0), "body": (7, 2.0), "idle": (6.0, 8.0),
    }  # fmt: skip
    timeouts.restore(one, saved)
    again = timeouts.save(one)
    assert again["sending"] == (5, pytest.approx(4, abs=0.5))
    assert again["body"] == (7, pytest.approx(2, abs=0.5))
    assert again["idle"] == (pytest.approx(6, abs=0.5), pytest.approx(8, abs=0.5))
    assert again["deadline"] == pytest.approx(3, abs=0.5)


def test_nothing_is_kept_of_one_that_has_ended(timeouts: Timeouts) -> None:
    one = Peer()
    timeouts.expect(one, "header")
    timeouts.expect(one, "body")
    timeouts.sending(one)
    timeouts.closing(one)
    timeouts.idle.messages[one.id] = (1, 0.0)
    timeouts.forget(one)
    assert timeouts.save(one) == {}
    assert not timeouts.close_deadlines.due


def test_a_connection_that_closes_gets_more_time_only_when_that_is_said(timeouts: Timeouts) -> None:
    one = Peer()
    timeouts.closing(one)
    queue = timeouts.close_deadlines.due[one]
    queue[one] -= 2
    timeouts.closing(one)
    assert timeouts.close_deadlines.save(one) == pytest.approx(3, abs=0.5)
    timeouts.closing(one, anew=True)
    assert timeouts.close_deadlines.save(one) == pytest.approx(5, abs=0.5)
    timeouts.not_closing(one)
    assert timeouts.close_deadlines.save(one) is None
