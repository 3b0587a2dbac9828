"""Greenlets beside the handler of a connection."""

from __future__ import annotations

import logging
from typing import Any

import gevent
import pytest
from gevent import GreenletExit
from gevent.event import Event
from served import Served, until
from websocket_bytes import handshake


def test_a_greenlet_makes_it_busy(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    event, told = Event(), []
    far = served.connect("tcp")
    connection, context = far.connection, served.context
    ended: list[Any] = []
    context.on_job_end = ended.append
    assert connection.is_movable
    first = connection.spawn(event.wait)
    second = connection.spawn(lambda *arguments: told.append(arguments), 1, 2)
    assert context.is_at_work
    assert not connection.is_movable
    assert not connection.is_idle
    second.join()
    assert told == [(1, 2)]
    assert ended == []
    assert not connection.is_movable
    event.set()
    assert first.get() is True
    until(lambda: ended == [connection])
    assert connection.is_movable
    assert connection.is_idle
    assert not context.is_at_work
    assert not caplog.records


def test_callbacks_run_beside_a_greenlet(served: Served) -> None:
    told: list[Any] = []
    event = Event()
    far = served.connect("tcp", on_message=lambda connection, data: told.append(data))
    far.connection.spawn(event.wait)
    far.send(b"x")
    until(lambda: told == [b"x"])
    event.set()


def test_what_a_greenlet_raises_costs_its_connection(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise ZeroDivisionError

    far, other = served.connect("websocket"), served.connect("tcp")
    far.send(handshake())
    until(far.read)
    far.connection.spawn(fails)
    until(lambda: far.read().endswith(b"\x88\x02\x03\xf3"))
    assert other.connection.status == "established"
    (record,) = caplog.records
    assert "exception in the greenlet test_what_a_greenlet_raises" in record.getMessage()


def test_all_are_killed_when_the_time_is_up(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def waits() -> None:
        try:
            gevent.sleep(3600)
        except GreenletExit:
            told.append("exit")
            raise

    caplog.set_level(logging.WARNING)
    far = served.connect("tcp")
    for _ in range(2):
        far.connection.spawn(waits)
    gevent.sleep(0)
    served.context.greenlets.kill()
    until(lambda: not served.context.is_at_work)
    assert told == ["exit", "exit"]
    assert far.connection.status == "established"
    assert not caplog.records


def test_one_that_rests_is_idle_and_stays(served: Served) -> None:
    event, rest = Event(), Event()
    far = served.connect("tcp")
    connection = far.connection
    told: list[Any] = []

    def waits() -> None:
        with served.context.greenlets.resting(connection):
            rest.wait()
        event.wait()

    served.context.on_job_end = told.append
    one = connection.spawn(waits)
    gevent.sleep(0.01)
    assert told == [connection]
    assert connection.is_idle
    assert not connection.is_movable
    rest.set()
    gevent.sleep(0.01)
    assert not connection.is_idle
    event.set()
    one.join()
