"""The state of an exchange that takes several steps."""

from __future__ import annotations

import pytest

from gworker.http.streaming import IterBody
from gworker.protocols.http.events import HttpExchange, ResponseStarted


def begun():
    closed = []

    def source():
        try:
            yield b"a"
        finally:
            closed.append("source")

    parts = source()
    next(parts)
    exchange = HttpExchange()
    exchange.outgoing = IterBody(parts)
    exchange.waiter = lambda: closed.append("waiter")
    exchange.ended = lambda: closed.append("ended")
    return exchange, closed


def test_an_answer_that_the_driver_has_not_got_is_closed():
    exchange, closed = begun()
    exchange.event = ResponseStarted(exchange.outgoing)
    exchange.abort()
    assert closed == ["source", "waiter", "ended"]


def test_one_that_the_driver_sends_is_the_drivers_to_close():
    exchange, closed = begun()
    exchange.abort()
    assert closed == ["waiter", "ended"]


@pytest.mark.parametrize("exchange", [HttpExchange()])
def test_nothing_to_abort(exchange):
    exchange.abort()
    assert exchange.outgoing is None
