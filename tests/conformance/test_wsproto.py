"""The server's end against two other implementations of RFC 6455: the same bytes, in three
deliveries.

What a stream of frames is made of is drawn, right or wrong. All three have to give the same
messages before the first fault, and the same class of fault. Known differences, and why ours is as
it is:

- `websockets` does not check that text is UTF-8: that is left to its user, so it is done
  here.
- `websockets` takes payload lengths that are not in their shortest form. Section 5.2: "the minimal
  number of bytes MUST be used". wsproto and we refuse them with 1002.
- A length with its highest bit set breaks section 5.2 (1002, wsproto and we); `websockets` finds it
  too long (1009).
- wsproto has no limit of a message, so streams stay below ours; 1009 is compared with `websockets`
  alone.
- A stream may break two rules at once: which is named is up to the reader, so one fault per
  stream is drawn.
"""

from __future__ import annotations

from typing import Any

import wsproto
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_bytes import frame, opened
from websockets.exceptions import PayloadTooBig
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from wsproto.events import BytesMessage, CloseConnection, Ping, RejectConnection, TextMessage

from gworker.errors import ProtocolError
from gworker.protocols import EOF, NEED_DATA
from gworker.protocols.websocket.server import WebSocketProtocol

LIMIT = 70_000
Outcome = tuple[list[str | bytes], int]
"""The messages, and the code that the peer is closed with (0: it is not)."""


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def ours(data: bytes, size: int) -> Outcome:
    protocol: WebSocketProtocol = opened(LIMIT)
    messages: list[str | bytes] = []
    for piece in pieces(data, size):
        protocol.receive_data(piece)
        try:
            while (event := protocol.next_event()) is not NEED_DATA:
                if event is EOF:
                    return messages, code_of(protocol.data_to_send() + protocol.close())
                messages.append(event)
        except ProtocolError as error:
            return messages, code_of(error.reply)
    return messages, 0


def code_of(reply: bytes) -> int:
    """The code of the Close frame at the end of our output, after pongs."""
    at = 0
    while reply[at] == 0x8A:
        at += 2 + reply[at + 1]
    assert reply[at] == 0x88
    return int.from_bytes(reply[at + 2 : at + 4]) if reply[at + 1] else 1005


def theirs(data: bytes, size: int) -> Outcome:
    """`websockets`, with the check of text that it leaves to its user."""
    protocol = ServerProtocol(max_size=LIMIT, state=State.OPEN)
    messages: list[str | bytes] = []
    parts: list[Any] = []
    for piece in pieces(data, size):
        protocol.receive_data(piece)
        for event in protocol.events_received():
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                parts.append(event)
                if event.fin:
                    whole = b"".join(bytes(part.data) for part in parts)
                    try:
                        messages.append(whole.decode() if parts[0].opcode is Opcode.TEXT else whole)
                    except UnicodeDecodeError:
                        return messages, 1007
                    parts = []
        if protocol.parser_exc is not None:
            if isinstance(protocol.parser_exc, PayloadTooBig):
                return messages, 1009
            assert protocol.close_sent is not None
            return messages, protocol.close_sent.code
        if protocol.close_rcvd is not None:
            return messages, protocol.close_rcvd.code
    return messages, 0


def thirds(data: bytes, size: int) -> Outcome:
    """`wsproto`, past its handshake."""
    connection = wsproto.connection.Connection(wsproto.ConnectionType.SERVER)
    messages: list[str | bytes] = []
    parts: list[Any] = []
    for piece in pieces(data, size):
        connection.receive_data(piece)
        try:
            for event in connection.events():
                if isinstance(event, TextMessage | BytesMessage):
                    parts.append(event.data)
                    if event.message_finished:
                        messages.append(
                            "".join(parts) if isinstance(event, TextMessage) else b"".join(parts)
                        )
                        parts = []
                elif isinstance(event, CloseConnection):
                    return messages, event.code
                else:
                    assert isinstance(event, Ping) or not isinstance(event, RejectConnection)
        except wsproto.utilities.RemoteProtocolError as error:
            hint = error.event_hint
            return messages, hint.code if isinstance(hint, CloseConnection) else 1002
    return messages, 0


TEXTS = st.text(max_size=60).map(str.encode)
PAYLOADS = st.binary(max_size=60) | st.sampled_from(
    [b"x" * 125, b"x" * 126, b"x" * 127, b"x" * 65535, b"x" * 65536]
)
PINGS = st.binary(max_size=20).map(lambda payload: frame(0x89, payload) + frame(0x8A, payload))


@st.composite
def message(draw: st.DrawFn) -> bytes:
    """The frames of a right message, with pings between its fragments."""
    is_text = draw(st.booleans())
    payload = draw(TEXTS if is_text else PAYLOADS)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
    parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    frames = []
    for number, part in enumerate(parts):
        opcode = 0 if number else 1 if is_text else 2
        frames.append(
            frame(
                opcode | (0x80 if number == len(parts) - 1 else 0),
                part,
                draw(st.binary(min_size=4, max_size=4)),
            )
        )
        if number < len(parts) - 1 and draw(st.booleans()):
            frames.append(draw(PINGS))
    return b"".join(frames)


FAULTS = {
    "reserved bit": frame(0xC1, b"a"),
    "unknown opcode": frame(0x83, b"a"),
    "unknown control": frame(0x8B),
    "fragmented ping": frame(0x09),
    "long ping": frame(0x89, b"x" * 126),
    "unmasked": b"\x81\x01a",
    "continuation of nothing": frame(0x80, b"a"),
    "message within a message": frame(0x01, b"a") + frame(0x81, b"b"),
    "not UTF-8": frame(0x81, b"\xff"),
    "not UTF-8 in a fragment": frame(0x01, b"a") + frame(0x80, b"\xc3"),
    "surrogate": frame(0x81, b"\xed\xa0\x80"),
    "half a code": frame(0x88, b"\x03"),
    "reserved code": frame(0x88, b"\x03\xed"),
    "code of nothing": frame(0x88, b"\x00\x01"),
    "reason not UTF-8": frame(0x88, b"\x03\xe8\xff"),
    "close": frame(0x88, b"\x03\xe8bye"),
    "close without a code": frame(0x88),
    "close of an application": frame(0x88, b"\x0f\xa0"),
    "nothing": b"",
}


@settings(max_examples=80, deadline=None)
@given(st.lists(message(), max_size=4), st.sampled_from(sorted(FAULTS)))
def test_the_same_messages_and_the_same_fault(frames, fault):
    data = b"".join(frames) + FAULTS[fault]
    expected = theirs(data, len(data) or 1)
    assert thirds(data, len(data) or 1) == expected
    for size in (
        len(data) or 1,
        1 if len(data) < 2000 else len(data) // 500,
        3 if len(data) < 2000 else 8191,
    ):
        assert ours(data, size) == expected, f"in pieces of {size}"


def test_too_long():
    for data in (frame(0x82, bytes(LIMIT + 1)), frame(0x02, bytes(LIMIT)) + frame(0x80, b"x")):
        for size in (len(data), 1000):
            assert ours(data, size) == theirs(data, size) == ([], 1009)


def test_lengths_are_in_their_shortest_form():
    data = b"\x82\xfe\x00\x01" + bytes(4) + b"x"
    assert ours(data, 100) == thirds(data, 100) == ([], 1002)
    assert theirs(data, 100) == ([b"x"], 0)
    data = b"\x82\xff\xff" + bytes(11)
    assert ours(data, 100) == thirds(data, 100) == ([], 1002)
    assert theirs(data, 100) == ([], 1009)
