"""Our protocol against the client of the `websockets` library, joined by two byte strings."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from gworker.protocols import EOF, NEED_DATA, Handshake
from gworker.protocols.websocket.server import WebSocketProtocol


class Pair:
    """A client and a server, and what each has received."""

    def __init__(self) -> None:
        self.client = ClientProtocol(parse_uri("ws://a/chat"), max_size=None)
        self.server = WebSocketProtocol(1 << 20)
        self.messages: list[str | bytes] = []
        self.ended = False
        self.client.send_request(self.client.connect())
        self.to_server()
        assert self.client.state is State.OPEN

    def to_server(self, size: int = 1 << 20) -> None:
        data = b"".join(self.client.data_to_send())
        for at in range(0, len(data), size):
            self.server.receive_data(data[at : at + size])
            self._drain()

    def _drain(self) -> None:
        while not self.ended and (event := self.server.next_event()) is not NEED_DATA:
            if isinstance(event, Handshake):
                self.server.accept_handshake([("X-Y", "z")])
            elif event is EOF:
                self.ended = True
                self.to_client(self.server.close())
            else:
                self.messages.append(event)
        if self.server.has_output:
            self.to_client(self.server.data_to_send())

    def to_client(self, data: bytes) -> list[Frame]:
        self.client.receive_data(data)
        return [event for event in self.client.events_received() if isinstance(event, Frame)]


MESSAGE = (
    st.text(max_size=300)
    | st.binary(max_size=300)
    | st.sampled_from(["é" * 40_000, b"x" * 65_536, "a" * 126])
)


@settings(max_examples=60)
@given(st.lists(MESSAGE, max_size=5), st.integers(1, 400))
def test_client_to_server(messages, size):
    pair = Pair()
    for message in messages:
        if isinstance(message, str):
            pair.client.send_text(message.encode())
        else:
            pair.client.send_binary(message)
    pair.to_server(max(size, 1000) if sum(map(len, messages)) > 5000 else size)
    assert pair.messages == messages


@given(st.text(max_size=300), st.lists(st.integers(0, 400), max_size=4))
def test_fragments_of_the_client(message, cuts):
    pair = Pair()
    data = message.encode()
    places = sorted(min(cut, len(data)) for cut in cuts)
    parts = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    pair.client.send_text(parts[0], fin=len(parts) == 1)
    for number, part in enumerate(parts[1:], 2):
        pair.client.send_ping(b"%d" % number)
        pair.client.send_continuation(part, fin=number == len(parts))
    pair.to_server(7)
    assert pair.messages == [message]


@settings(max_examples=60)
@given(st.lists(MESSAGE, max_size=5))
def test_server_to_client(messages):
    pair = Pair()
    frames = pair.to_client(b"".join(pair.server.encode(message) for message in messages))
    assert [
        frame.data.decode() if frame.opcode is Opcode.TEXT else frame.data for frame in frames
    ] == messages


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 3000, 4999])
def test_client_closes(code):
    pair = Pair()
    pair.client.send_close(code, "é")
    pair.to_server(1)
    assert pair.ended
    assert (pair.server.close_code, pair.server.close_reason) == (code, "é")
    assert pair.client.close_rcvd.code == code
    assert pair.client.state is State.CLOSING  # it waits for the server to end the connection
    assert pair.client.close_expected()


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 3000, 4999])
def test_server_closes(code):
    pair = Pair()
    pair.to_client(pair.server.close(code, "é"))
    assert (pair.client.close_rcvd.code, pair.client.close_rcvd.reason) == (code, "é")
    pair.to_server(1)
    assert pair.ended
    assert pair.server.close_code == code


def test_pings_both_ways():
    pair = Pair()
    pair.client.send_ping(b"a")
    pair.to_server()
    pair.to_client(pair.server.ping(b"b"))
    assert b"".join(pair.client.data_to_send())[:2] == b"\x8a\x81"
