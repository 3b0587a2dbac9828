"""Requests that open a WebSocket."""

from __future__ import annotations

import pytest
from websocket_bytes import handshake

from gworker.errors import ProtocolError
from gworker.http import BadRequest
from gworker.http.headers import Headers
from gworker.http.upgrade import (
    accept_of,
    asks_for_websocket,
    check_upgrade,
    offered_subprotocols,
    parse_extensions,
)
from gworker.protocols.websocket.server import WebSocketProtocol

GOOD = {
    "Host": "a",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_what_opens_one():
    check_upgrade("GET", "1.1", Headers(GOOD))
    assert asks_for_websocket(Headers(GOOD))


@pytest.mark.parametrize(
    ("method", "version", "changed", "status"),
    [
        ("POST", "1.1", {}, 405),
        ("GET", "1.0", {}, 400),
        ("GET", "1.1", {"Content-Length": "1"}, 400),
        ("GET", "1.1", {"Transfer-Encoding": "chunked"}, 400),
        ("GET", "1.1", {"Upgrade": "h2c"}, 426),
        ("GET", "1.1", {"Connection": "close"}, 426),
        ("GET", "1.1", {"Sec-WebSocket-Version": "8"}, 426),
        ("GET", "1.1", {"Sec-WebSocket-Key": "short"}, 400),
        ("GET", "1.1", {"Sec-WebSocket-Extensions": "a b"}, 400),
        ("GET", "1.1", {"Sec-WebSocket-Protocol": "a b"}, 400),
        ("POST", "1.0", {"Upgrade": "h2c"}, 405),  # the method goes first
        ("GET", "1.0", {"Upgrade": "h2c", "Sec-WebSocket-Key": "short"}, 426),
    ],
)
def test_what_opens_none(method, version, changed, status):
    with pytest.raises(BadRequest) as caught:
        check_upgrade(method, version, Headers(GOOD | changed))
    assert caught.value.status == status
    assert (b"\r\nConnection: Upgrade, close\r\n" in caught.value.reply) is (status == 426)


def test_subprotocols_in_order_of_preference():
    assert offered_subprotocols(Headers({"Sec-WebSocket-Protocol": "b,, a\t,c"})) == ["b", "a", "c"]
    assert offered_subprotocols(Headers()) == []


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("a", [("a", {})]),
        ("a, b;c", [("a", {}), ("b", {"c": None})]),
        ('a ; b = 1 ;c="2",,\td', [("a", {"b": "1", "c": "2"}), ("d", {})]),
        ("a; b; b=2, c", [("a", None), ("c", {})]),
        (" ", []),
        ("a,", [("a", {})]),
    ],
)
def test_lists_of_extensions(field, found):
    assert parse_extensions(field) == found


@pytest.mark.parametrize(
    "field", ["a b", "a;", "a; =1", "a; b=", 'a; b="c', "a; b==1", "=", "a; b=@", 'a; b=""']
)
def test_malformed_extensions_end_the_handshake(field):
    with pytest.raises(ValueError, match="malformed"):
        parse_extensions(field)
    protocol = WebSocketProtocol(100)
    protocol.receive_data(handshake(Sec_WebSocket_Extensions=field))
    with pytest.raises(ProtocolError) as caught:
        protocol.next_event()
    assert caught.value.reply.startswith(b"HTTP/1.1 400 ")


def test_the_key_of_rfc_6455():
    assert accept_of(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
