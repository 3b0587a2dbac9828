"""Cutting off the head of a request."""

from __future__ import annotations

import pickle

import pytest

from gworker.errors import ProtocolError
from gworker.protocols.http.head_buffer import MAX_PARTIAL
from gworker.protocols.http.protocol import HttpProtocol
from gworker.protocols.websocket.server import WebSocketProtocol

PROTOCOLS = [HttpProtocol, WebSocketProtocol]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_of_what_is_refused_the_beginning_is_kept(protocol):
    one = protocol(100)
    one.receive_data(b"GET / HTTP/1.1\n" + b"x" * 5000)
    with pytest.raises(ProtocolError):
        one.next_event()
    assert one.raw_head == b"GET / HTTP/1.1\n" + b"x" * (MAX_PARTIAL - 15)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("data", [b"GET /", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_an_end_within_the_head(protocol, data):
    one = protocol(100)
    one.receive_data(data)
    one.next_event()
    one.receive_data(b"")
    with pytest.raises(ProtocolError, match="within its head"):
        one.next_event()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_options_do_not_move(protocol):
    one = protocol(100)
    one.configure({"compression": None, "stream_above": 5, "function": lambda: None})
    one.receive_data(b"GET /")
    copy = pickle.loads(pickle.dumps(one))
    copy.receive_data(b" HTTP/1.1\r\nHost")
    copy.next_event()
    assert copy.is_partial
