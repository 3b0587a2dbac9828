"""Attempts to reach one of several addresses: when each begins, and what is left behind."""

from __future__ import annotations

import _socket
import time

from one_loop import Server, black_hole, refused_url, run
from scenario_process import raises

from gworker.client import happy_eyeballs
from gworker.client.happy_eyeballs import STAGGER, DialError, race


def reached(*ports, stagger=STAGGER):
    """The port that is connected, and the seconds until then."""
    happy_eyeballs.STAGGER = stagger
    begun = time.monotonic()
    try:
        made = race([(2, ("127.0.0.1", port)) for port in ports], _socket.SOCK_STREAM)
    finally:
        happy_eyeballs.STAGGER = STAGGER
    port = made.getpeername()[1]
    made.close()
    return port, time.monotonic() - begun


def refused():
    holder, url = refused_url()
    return holder, int(url.rpartition(":")[2])


def test_attempts_begin_a_stagger_apart():
    assert STAGGER == 0.25
    hole, server = black_hole(), Server()
    port, seconds = reached(hole.port, hole.port, server.port, hole.port)
    assert port == server.port
    assert 2 * STAGGER <= seconds < 10, seconds


def test_a_failure_lets_the_next_begin_at_once():
    (_one, first), (_two, second), server = refused(), refused(), Server()
    port, seconds = reached(first, second, server.port, stagger=20)
    assert port == server.port
    assert seconds < 20, seconds
    hole = black_hole()
    port, seconds = reached(first, hole.port, server.port)
    assert port == server.port
    assert seconds >= STAGGER, "one failure is one attempt's, not that of all"


def test_the_first_that_answers_counts():
    hole, server, other = black_hole(), Server(), Server()
    port, _ = reached(hole.port, server.port, other.port, stagger=0.01)
    assert port == server.port


def test_it_is_over_when_all_have_failed():
    (_one, first), (_two, second) = refused(), refused()
    with raises(DialError, f"127.0.0.1:{first}: Connection refused; 127.0.0.1:{second}: "):
        reached(first, second, stagger=20)
    with raises(DialError):
        reached()


run(globals())
