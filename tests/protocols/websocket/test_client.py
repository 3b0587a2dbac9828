"""The client's end, against our server's end and against the server of the `websockets` library."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.server import ServerProtocol

from gworker.errors import ProtocolError
from gworker.http.upgrade import accept_of
from gworker.protocols import EOF, NEED_DATA, Handshake, Opened
from gworker.protocols.websocket.client import WebSocketClient
from gworker.protocols.websocket.server import WebSocketProtocol


def key_of(request: bytes) -> bytes:
    found = re.search(rb"Sec-WebSocket-Key: (\S+)\r\n", request)
    assert found
    return found[1]


def asked(limit: int = 70_000, **arguments) -> tuple[WebSocketClient, bytes]:
    client = WebSocketClient(limit, "example.com", "/chat?a=b", **arguments)
    request = client.data_to_send()
    assert not client.has_output
    return client, request


def answer(request: bytes, status: str = "101 Switching Protocols", **changes: str | None) -> bytes:
    fields = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_of(key_of(request)).decode(),
    }
    fields |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [
        f"HTTP/1.1 {status}",
        *(f"{name}: {value}" for name, value in fields.items() if value is not None),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def opened(limit: int = 70_000, **arguments) -> WebSocketClient:
    client, request = asked(limit, **arguments)
    client.receive_data(answer(request))
    assert isinstance(client.next_event(), Opened)
    assert client.next_event() is NEED_DATA
    return client


def test_request():
    client, request = asked(
        subprotocols=["chat", "echo"], origin="https://example.com", headers={"Cookie": "a=b"}
    )
    key = key_of(request)
    assert request == (
        b"GET /chat?a=b HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: "
        b"Upgrade\r\n"
        b"Origin: https://example.com\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        + key
        + b"\r\n"
        b"Sec-WebSocket-Protocol: chat, echo\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
        b"client_no_context_takeover; "
        b"client_max_window_bits\r\nCookie: a=b\r\n\r\n"
    )
    assert client.waiting_for() == "handshake"
    assert client.next_event() is NEED_DATA
    assert key_of(asked()[1]) != key


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "chat"}, "no path"),
        ({"target": "/a b"}, "no path"),
        ({"target": "/a#b"}, "no path"),
        ({"host": "a\r\nb"}, "no host"),
        ({"headers": {"Host": "x"}}, "sets Host itself"),
        ({"headers": {"Sec-WebSocket-Key": "x"}}, "sets Sec-WebSocket-Key itself"),
        ({"headers": {"A": "b\r\nc"}}, "contains"),
        ({"subprotocols": ["a b"]}, "token"),
    ],
)
def test_impossible_requests(arguments, message):
    with pytest.raises(ValueError, match=message):
        WebSocketClient(100, **{"host": "a", **arguments})


def test_answer_in_pieces():
    client, request = asked()
    for byte in answer(request, X_Y="z"):
        assert client.next_event() is NEED_DATA
        client.receive_data(bytes([byte]))
    event = client.next_event()
    assert isinstance(event, Opened)
    assert (event.response.status, event.response.headers["x-y"]) == (101, "z")
    assert client.waiting_for() == ""


def test_messages_follow_the_answer():
    client, request = asked()
    client.receive_data(answer(request) + b"\x81\x02hi")
    assert isinstance(client.next_event(), Opened)
    assert client.next_event() == "hi"


@pytest.mark.parametrize(
    ("status", "changes", "message"),
    [
        ("403 Forbidden", {}, "the server answered 403 Forbidden"),
        ("302", {}, "the server answered 302 Found"),
        ("999", {}, "the server answered 999"),
        ("101 Yes", {"Upgrade": "h2c"}, "without Upgrade: websocket"),
        ("101 Yes", {"Upgrade": None}, "without Upgrade: websocket"),
        ("101 Yes", {"Connection": "close"}, "without Connection: Upgrade"),
        (
            "101 Yes",
            {"Sec_WebSocket_Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
            "does not answer our key",
        ),
        ("101 Yes", {"Sec_WebSocket_Accept": None}, "does not answer our key"),
        (
            "101 Yes",
            {"Sec_WebSocket_Protocol": "other"},
            "subprotocol 'other', which was not offered",
        ),
        ("101 Yes", {"Sec_WebSocket_Protocol": ""}, "subprotocol '', which was not offered"),
        (
            "101 Yes",
            {"Sec_WebSocket_Extensions": "x-snappy"},
            "extensions 'x-snappy' cannot be used: the server chose an extension not offered",
        ),
        ("101 Yes", {"A\tB": "c"}, "is not a token"),
        ("101 Yes\r\nnonsense", {}, "no colon"),
    ],
)
def test_wrong_answers(status, changes, message):
    client, request = asked(subprotocols=["chat"])
    client.receive_data(answer(request, status, **changes))
    with pytest.raises(ProtocolError, match=re.escape(message)) as caught:
        client.next_event()
    assert caught.value.reply == b""
    assert client.next_event() is EOF
    assert client.close() == b""


def test_no_http():
    client, _ = asked()
    client.receive_data(b"SSH-2.0-OpenSSH\r\n\r\n")
    with pytest.raises(
        ProtocolError, match="does not speak HTTP/1.1, it answered 'SSH-2.0-OpenSSH'"
    ):
        client.next_event()


def test_endless_answer():
    client, _ = asked()
    client.receive_data(b"HTTP/1.1 101 Yes\r\n" + b"A: b\r\n" * 20_000)
    with pytest.raises(ProtocolError, match="longer than 65536 bytes"):
        client.next_event()


def test_no_answer():
    client, _ = asked()
    client.receive_data(b"HTTP/1.1 101")
    client.receive_data(b"")
    with pytest.raises(ProtocolError, match="closed the connection before"):
        client.next_event()


def test_answer_too_late():
    client, _ = asked()
    assert client.timed_out() == b""
    assert client.next_event() is EOF


def test_messages_before_it_is_open_are_held_back():
    client = WebSocketClient(100, "a")
    assert client.encode("early") == b""
    request = client.data_to_send()
    assert request.endswith(b"\r\n\r\n")
    assert client.encode(b"bird") == b""
    assert not client.has_output
    client.receive_data(answer(request))
    assert isinstance(client.next_event(), Opened)
    assert client.has_output
    server = WebSocketProtocol(100)
    server.receive_data(request)
    assert isinstance(server.next_event(), Handshake)
    server.accept_handshake()
    server.receive_data(client.data_to_send())
    assert [server.next_event(), server.next_event()] == ["early", b"bird"]


def test_masks_are_fresh():
    client = opened()
    masks = {client.encode("x")[2:6] for _ in range(20)} | {client.ping()[2:6] for _ in range(20)}
    assert len(masks) == 40
    assert client.encode("x")[1] == 0x81


def test_masked_frames_are_refused():
    client = opened()
    client.receive_data(b"\x81\x82abcdxx")
    with pytest.raises(ProtocolError, match="with a mask") as caught:
        client.next_event()
    assert caught.value.reply[:2] == b"\x88\x93"


class Pair:
    """Our client and our server."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.client = WebSocketClient(limit, "a")
        self.server = WebSocketProtocol(limit)
        self.server.receive_data(self.client.data_to_send())
        assert isinstance(self.server.next_event(), Handshake)
        self.server.accept_handshake()
        self.client.receive_data(self.server.data_to_send())
        assert isinstance(self.client.next_event(), Opened)


MESSAGE = (
    st.text(max_size=300)
    | st.binary(max_size=300)
    | st.sampled_from(["é" * 40_000, b"x" * 65_536, "a" * 126])
)


@given(st.lists(MESSAGE, max_size=5), st.integers(1, 400))
def test_both_ways(messages, size):
    pair = Pair()
    for sender, receiver in ((pair.client, pair.server), (pair.server, pair.client)):
        data = b"".join(sender.encode(message) for message in messages)
        size = max(size, len(data) // 500 + 1)
        received = []
        for at in range(0, len(data), size):
            receiver.receive_data(data[at : at + size])
            while (event := receiver.next_event()) is not NEED_DATA:
                received.append(event)
        assert received == messages


@pytest.mark.parametrize("client_first", [True, False])
def test_closing(client_first):
    pair = Pair()
    one, other = (pair.client, pair.server) if client_first else (pair.server, pair.client)
    other.receive_data(one.close(4000, "é"))
    assert other.next_event() is EOF
    assert (other.close_code, other.close_reason) == (4000, "é")
    one.receive_data(other.close())
    assert one.next_event() is EOF
    assert (one.close_code, one.close_reason) == (4000, "")


def test_against_websockets():
    client, request = asked()
    server = ServerProtocol()
    server.receive_data(request)
    (event,) = server.events_received()
    response = server.accept(event)
    server.send_response(response)
    client.receive_data(b"".join(server.data_to_send()))
    assert isinstance(client.next_event(), Opened)
    server.receive_data(
        client.encode("hé") + client.encode(b"x" * 70_000) + client.close(1001, "bye")
    )
    assert [frame.data for frame in server.events_received()] == [
        b"h\xc3\xa9",
        b"x" * 70_000,
        b"\x03\xe9bye",
    ]
    client.receive_data(b"".join(server.data_to_send()))
    assert client.next_event() is EOF
    assert client.close_code == 1001
