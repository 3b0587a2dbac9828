"""permessage-deflate: compressing, inflating, and moving to another process."""

from __future__ import annotations

import pickle
import random
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_bytes import frame, handshake

from gworker.errors import ProtocolError
from gworker.protocols import NEED_DATA, Handshake, Opened
from gworker.protocols.websocket.client import WebSocketClient
from gworker.protocols.websocket.deflate import TAIL, Deflate
from gworker.protocols.websocket.extensions import answer_offers
from gworker.protocols.websocket.options import Compression
from gworker.protocols.websocket.server import WebSocketProtocol

PLAIN = Compression()
KEEPING = Compression(context_takeover=True)
NO_CONTEXT = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

# --- messages


def joined(
    server: Compression = PLAIN, client: object = None, limit: int = 1 << 20
) -> tuple[WebSocketProtocol, WebSocketClient]:
    """Both ends, open."""
    other = WebSocketClient(
        limit, "a", compression=client if client is not None else {"threshold": 1}
    )
    protocol = WebSocketProtocol(limit)
    protocol.configure({"compression": server._replace(threshold=1)})
    protocol.receive_data(other.data_to_send())
    assert isinstance(protocol.next_event(), Handshake)
    protocol.accept_handshake()
    other.receive_data(protocol.data_to_send())
    assert isinstance(other.next_event(), Opened)
    assert protocol.next_event() is NEED_DATA
    return protocol, other


def received(protocol, data: bytes, size: int = 1 << 20) -> list[object]:
    events = []
    for at in range(0, len(data), size):
        protocol.receive_data(data[at : at + size])
        while (event := protocol.next_event()) is not NEED_DATA:
            events.append(event)
    return events


TAKEOVER = {"context_takeover": True, "threshold": 1}
MESSAGE = (
    st.text(max_size=300)
    | st.binary(max_size=300)
    | st.sampled_from(["é" * 40_000, b"x" * 65_536, "a" * 126, ""])
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(MESSAGE, max_size=5),
    st.integers(1, 300),
    st.booleans(),
    st.booleans(),
    st.integers(8, 15),
    st.integers(8, 15),
)
def test_both_ways(messages, size, one_keeps, other_keeps, bits, other_bits):
    server, client = joined(
        Compression(one_keeps, window_bits=bits),
        {"context_takeover": other_keeps, "window_bits": other_bits, "threshold": 1}
        if one_keeps
        else None,
    )
    assert server._deflate is not None
    for sender, receiver in ((client, server), (server, client), (client, server)):
        data = b"".join([sender.encode(message) for message in messages])
        assert received(receiver, data, max(size, len(data) // 300)) == messages


def test_context_makes_the_second_message_smaller():
    text = "".join(random.Random(1).choices("abcdefgh", k=2000))
    server, client = joined(KEEPING, TAKEOVER)
    assert len(client.encode(text)) > 10 * len(client.encode(text))
    server, client = joined()
    first = server.encode(text)
    assert server.encode(text) == first
    other, _ = joined()
    assert other._deflate is server._deflate
    assert other.encode(text) == first


def test_threshold():
    protocol = WebSocketProtocol(100)
    protocol.configure({"compression": Compression(threshold=1024)})
    protocol.receive_data(handshake(Sec_WebSocket_Extensions="permessage-deflate"))
    protocol.next_event()
    protocol.accept_handshake()
    assert (protocol.encode("a" * 1023)[0], protocol.encode("a" * 1024)[0]) == (0x81, 0xC1)


def test_examples_of_the_rfc():
    """RFC 7692 section 7.2.3: one block, fragments, shared window, stored block, final block, two
    blocks."""
    server, _ = joined(KEEPING, TAKEOVER)
    parts = bytes.fromhex("f248cdc9c90700")
    assert received(server, frame(0xC1, parts)) == ["Hello"]
    assert received(server, frame(0x41, parts[:3]) + frame(0x80, parts[3:])) == ["Hello"]
    assert received(server, frame(0xC1, bytes.fromhex("f200110000"))) == ["Hello"]
    assert received(server, frame(0xC1, bytes.fromhex("000500faff48656c6c6f00"))) == ["Hello"]
    assert received(server, frame(0xC1, bytes.fromhex("f348cdc9c9070000"))) == ["Hello"]
    assert received(
        server, frame(0xC1, bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", "")))
    ) == ["Hello"]


@pytest.mark.parametrize(
    "frames",
    [
        frame(0x01, b"a") + frame(0xC0, b"b"),
        frame(0xC9, b"ping"),
        frame(0xC8, b""),
        frame(0xA1, b"a"),
        frame(0x91, b"a"),
        frame(0xC0, b"a"),
    ],
)
def test_where_the_bit_may_not_be(frames):
    server, _ = joined()
    with pytest.raises(ProtocolError) as caught:
        received(server, frames)
    assert caught.value.reply[2:4] == (1002).to_bytes(2)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\xff\xff\xff", 1007),  # no block has this type
        (zlib.compress(b"Hello")[:8], 1007),  # not raw
        (b"\x03\x00" * 100, 1007),  # a hundred streams
        (b"\xca\x48\x02\x00\x81", 1007),
    ],
)
def test_what_cannot_be_inflated(payload, code, whole):
    server, _ = joined()
    data = frame(0xC1, payload)
    with pytest.raises(ProtocolError) as caught:
        received(server, data, len(data) if whole else 1)
    assert caught.value.reply[2:4] == code.to_bytes(2)


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_text_is_checked_after_inflating():
    server, _ = joined()
    with pytest.raises(ProtocolError) as caught:
        received(server, frame(0xC1, deflated(b"\xc3(")))
    assert caught.value.reply[2:4] == (1007).to_bytes(2)


@pytest.mark.parametrize("size", [1 << 20, 100])
@pytest.mark.parametrize("times", [1, 2])
def test_bombs_cost_what_the_limit_allows(size, times):
    bomb = deflated(b"x" * 20_000_000)
    server, _ = joined(limit=1 << 20)
    began = time.process_time()
    with pytest.raises(ProtocolError, match="longer than allowed") as caught:
        if times == 1:
            received(server, frame(0xC2, bomb), size)
        else:
            received(server, frame(0x42, bomb[:1000]) + frame(0x80, bomb[1000:]), size)
    assert caught.value.reply[2:4] == (1009).to_bytes(2)
    assert time.process_time() - began < 1


def test_what_is_held_of_a_message_in_pieces_is_what_was_sent():
    server, _ = joined(limit=1 << 20)
    data = frame(0xC2, deflated(random.Random(1).randbytes(1 << 20)))
    tracemalloc.start()
    try:
        assert received(server, data[:-1], 65536) == []
        assert tracemalloc.get_traced_memory()[0] < 1.5 * (1 << 20)
    finally:
        tracemalloc.stop()
    assert len(received(server, data[-1:])[0]) == 1 << 20


@pytest.mark.parametrize("size", [1 << 20, 100])
def test_it_is_told_how_much_larger_messages_have_become(size):
    server, _ = joined()
    large, small = deflated(bytes(500_000)), deflated(random.Random(1).randbytes(500))
    received(server, frame(0xC2, large) + frame(0xC2, small) + frame(0x82, bytes(500)), size)
    assert server.inflated_bytes == 500_000 - len(large)


def test_the_limit_itself():
    for length, fits in ((1000, True), (1001, False)):
        for size in (1 << 20, 3):
            server, _ = joined(limit=1000)
            data = frame(0xC2, deflated(b"x" * length))
            if fits:
                assert received(server, data, size) == [b"x" * 1000]
            else:
                with pytest.raises(ProtocolError):
                    received(server, data, size)


def test_compressed_input_is_limited_too():
    server, _ = joined(limit=1000)
    with pytest.raises(ProtocolError, match="longer than 1000 bytes"):
        received(
            server,
            frame(0x42, b"\x00\x00\x00\xff\xff" * 200) + frame(0x00, b"\x00\x00\x00\xff\xff" * 200),
        )


def test_dropped_after_our_close():
    server, _ = joined()
    server.close()
    assert received(server, frame(0xC2, b"\xff\xff") + frame(0x42, b"\xff")) == []
    server, _ = joined()
    assert received(server, frame(0x42, deflated(b"a"))) == []
    server.close()
    pickle.loads(pickle.dumps(server))
    assert received(server, frame(0x80, b"\xff\xff")) == []


# --- moving


def test_moving_after_every_byte():
    """In both roles."""
    text = "".join(random.Random(1).choices("abcdefgh", k=300))
    ends = joined()
    for sender, receiver in (ends, ends[::-1]):
        data = b"".join(
            [sender.encode(message) for message in (text, text.encode(), "é" + text, text)]
        )
        if isinstance(sender, WebSocketClient):
            bit = sender._deflate
            assert bit is not None
            halves = bit.compress(text.encode())
            data += frame(0x41, halves[:20]) + frame(0x89, b"ping") + frame(0x80, halves[20:])
        events = []
        for byte in data:
            receiver = pickle.loads(pickle.dumps(receiver))  # noqa: PLW2901
            events += received(receiver, bytes([byte]))
        assert events[:4] == [text, text.encode(), "é" + text, text]
        assert events[4:] == [text] * (isinstance(sender, WebSocketClient))
        answer = receiver.encode(text)
        assert received(sender, receiver.data_to_send() + answer) == [
            text
        ]  # its pong first, if any


@pytest.mark.parametrize(
    ("offers", "obstacle"),
    [
        ("permessage-deflate", "a compression context"),
        ("permessage-deflate; server_no_context_takeover", "a compression context"),
        ("permessage-deflate; client_no_context_takeover", "a compression context"),
        (NO_CONTEXT, ""),
        ("", ""),
    ],
)
def test_one_of_which_an_end_keeps_a_context_does_not_move(offers, obstacle):
    server = WebSocketProtocol(100)
    server.configure({"compression": KEEPING})
    server.receive_data(handshake(**({"Sec_WebSocket_Extensions": offers} if offers else {})))
    server.next_event()
    server.accept_handshake()
    assert server.migration_obstacle == obstacle


def test_what_moves_is_small_and_shared():
    server, _ = joined()
    assert len(pickle.dumps(server)) < 250
    moved = pickle.loads(pickle.dumps(server))
    assert moved._deflate is server._deflate
    assert moved.encode(b"a" * 500) == server.encode(b"a" * 500)


def test_tail():
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(b"x") + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert data.endswith(TAIL)
    assert isinstance(Deflate.by(answer_offers("permessage-deflate", PLAIN)[0].agreement), Deflate)
