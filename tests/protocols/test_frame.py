from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gworker.errors import ProtocolError
from gworker.protocols import EOF, NEED_DATA
from gworker.protocols.frame import FrameProtocol


def make() -> FrameProtocol:
    return FrameProtocol(100)


def frame(payload: bytes) -> bytes:
    return (len(payload) + 4).to_bytes(4) + payload


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (frame(b"hello"), [b"hello"]),
        (frame(b""), [b""]),
        (frame(b"a") + frame(b"") + frame(b"b"), [b"a", b"", b"b"]),
        (frame(b"a") + b"\0\0\0\x09ab", [b"a"]),
        (frame(b"a") + b"\0\0", [b"a"]),
        (frame(b"x" * 96), [b"x" * 96]),
    ],
)
def test_frames(drive, data, messages):
    assert drive.every_way(make, data).events == messages
    assert drive.every_way(make, data, end=True).events == [*messages, EOF]
    assert all(type(event) is bytes for event in drive.every_way(make, data).events)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 101, 0xFFFFFFFF])
def test_impossible_length_is_refused_at_once(drive, length):
    transcript = drive.every_way(make, frame(b"ok") + length.to_bytes(4))
    assert transcript.events == [b"ok"]
    assert transcript.error == f"frame length {length} is not between 4 and 100"


@given(st.lists(st.binary(max_size=96)), st.lists(st.integers(0)))
def test_any_cut_gives_the_same_frames(drive, payloads, cuts):
    protocol = make()
    data = b"".join(protocol.encode(payload) for payload in payloads)
    assert drive.cut(make, data, cuts, end=True).events == [*payloads, EOF]


def test_memory_of_a_large_frame_is_given_back():
    protocol = FrameProtocol(1 << 23)
    large = frame(b"x" * (1 << 22))
    for at in range(0, len(large), 65536):
        protocol.receive_data(large[at : at + 65536] + (b"\0" if at + 65536 >= len(large) else b""))
        event = protocol.next_event()
    assert event == large[4:]
    assert protocol.next_event() is NEED_DATA
    assert protocol._buffer == b"\0"
    assert protocol._buffer.__sizeof__() < 1000


def test_consumed_part_of_joined_reads_is_given_back_at_once():
    protocol = FrameProtocol(1 << 23)
    large = frame(b"x" * (1 << 20))
    protocol.receive_data(large[:9])
    protocol.receive_data(large[9:] + frame(b"y") * 2)
    assert len(protocol.next_event()) == 1 << 20
    assert protocol._buffer.__sizeof__() < 1000
    assert [protocol.next_event() for _ in range(3)] == [b"y", b"y", NEED_DATA]


def test_incomplete_frame_holds_only_what_came():
    protocol = FrameProtocol(1 << 30)
    protocol.receive_data((1 << 30).to_bytes(4))
    for _ in range(100):
        assert protocol.next_event() is NEED_DATA
        protocol.receive_data(b"x" * 1000)
    assert protocol._buffer.__sizeof__() < 130_000


def test_deaf_after_an_error():
    protocol = make()
    protocol.receive_data(b"\0\0\0\0")
    with pytest.raises(ProtocolError):
        protocol.next_event()
    protocol.receive_data(frame(b"a"))
    assert protocol.next_event() is EOF


@pytest.mark.parametrize("message", [b"hi", "hi", bytearray(b"hi"), memoryview(b"hi")])
def test_encode(message):
    assert make().encode(message) == b"\0\0\0\6hi"


def test_wrong_type_is_named():
    with pytest.raises(TypeError, match="frame protocol sends bytes.*not set"):
        make().encode({1})


@pytest.mark.parametrize(
    ("message", "text"), [({"a": "é"}, '{"a": "é"}'), ([1, None], "[1, null]")]
)
def test_dict_and_list_are_json(message, text):
    encoded = text.encode()
    assert make().encode(message) == bytes([0, 0, 0, 4 + len(encoded)]) + encoded
