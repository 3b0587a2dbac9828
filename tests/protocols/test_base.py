"""The defaults of what a protocol may have; and one that is copied between any two bytes goes on as
if nothing had been."""

from __future__ import annotations

import pickle
import struct

import pytest

from gworker.protocols import get
from gworker.protocols.base import EOF, NEED_DATA, PAUSED, Handshake, Protocol

HANDSHAKE = (
    b"GET /chat?a=b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(first: int, payload: bytes) -> bytes:
    mask = b"\x11\x22\x33\x44"
    size = len(payload)
    head = (
        bytes([first, 0x80 | size])
        if size < 126
        else bytes([first, 0xFE]) + struct.pack(">H", size)
    )
    return head + mask + bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))


STREAMS = {
    "text": b"one\r\n\ntw\xc3\xb6\nlast\n",
    "frame": b"\0\0\0\x07one\0\0\0\x04\0\0\0\x0bpayload",
    "websocket": HANDSHAKE
    + frame(0x81, b"hello")
    + frame(0x01, "grü".encode())
    + frame(0x89, b"ping")
    + frame(0x80, b"n")
    + frame(0x82, b"x" * 200)
    + frame(0x88, b"\x03\xe8bye"),
    "http": b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: "
    b"5\r\n\r\nhello"
    b"PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
    b"chunked\r\n\r\n3;q=1\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n",
}


def feed(protocol: Protocol, data: bytes, owed: bytearray) -> list[object]:
    """What comes of `data`, as it can be compared; what the protocol owes is added to `owed`."""
    story: list[object] = []
    protocol.receive_data(data)
    while (event := protocol.next_event()) is not NEED_DATA:
        if isinstance(event, Handshake):
            story.append(event.request.path)
            protocol.accept_handshake()
        elif protocol.name == "http":
            assert event is not PAUSED
            story += [event.method, event.path, event.body, protocol.encode("answer")]
        else:
            story.append(event)
        if event is EOF:
            break
    owed.extend(protocol.data_to_send())
    return story


@pytest.mark.parametrize("name", STREAMS)
def test_a_copy_at_any_moment_goes_on(name: str) -> None:
    stream, owed = STREAMS[name], bytearray()
    whole = feed(get(name)(1000), stream, owed)
    assert len(whole) >= 3
    for cut in range(len(stream) + 1):
        protocol, owes = get(name)(1000), bytearray()
        story = feed(protocol, stream[:cut], owes) if cut else []
        if EOF not in story:
            story += (
                feed(pickle.loads(pickle.dumps(protocol)), stream[cut:], owes)
                if stream[cut:]
                else []
            )
        assert (cut, [*map(repr, story)], owes) == (cut, [*map(repr, whole)], owed)


@pytest.mark.parametrize("name", STREAMS)
def test_copied_after_each_byte(name: str) -> None:
    protocol, owed, owes = get(name)(1000), bytearray(), bytearray()
    whole = feed(get(name)(1000), STREAMS[name], owed)
    story: list[object] = []
    for byte in STREAMS[name]:
        story += feed(protocol, bytes([byte]), owes)
        protocol = pickle.loads(pickle.dumps(protocol))
    assert ([*map(repr, story)], owes) == ([*map(repr, whole)], owed)


class Smallest(Protocol):
    def receive_data(self, data):
        pass

    def next_event(self):
        return NEED_DATA


def test_a_protocol_without_any():
    protocol = Smallest(100)
    protocol.configure({})
    protocol.notify_waiter()
    protocol.check_close(5, "whatever")
    assert protocol.has_pending
    assert protocol.accepts_unsolicited
    assert protocol.encoding is None
    assert not protocol.is_partial
    assert protocol.message_start(5) is None
    assert protocol.waiting_for() == ""
    assert protocol.timed_out() == protocol.ping() == protocol.close() == b""
    assert not protocol.is_answering
    assert not protocol.awaits_answer
    assert not protocol.is_sending
    assert protocol.refuse(RuntimeError()) is None
    assert not protocol.awaits_peer_close
    assert protocol.migration_obstacle == ""


def test_what_only_an_event_or_a_call_of_the_user_asks_for():
    protocol = Smallest(100)
    for call in (protocol.accept_handshake, protocol.refuse_handshake, protocol.take_unparsed):
        with pytest.raises(TypeError, match=r"Smallest .*has no (accept|refuse|take)_"):
            call()


def test_they_take_no_memory():
    assert len(Protocol.__slots__) == 4
