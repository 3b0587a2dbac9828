from __future__ import annotations

import pytest

from gworker.protocols import EOF, NEED_DATA
from gworker.protocols.tcp import TcpProtocol


def test_messages_are_the_reads(drive):
    assert drive(TcpProtocol(10), [b"ab", b"c"], end=True).events == [b"ab", b"c", EOF]


def test_reads_before_the_next_event_are_joined():
    protocol = TcpProtocol(10)
    protocol.receive_data(b"ab")
    protocol.receive_data(b"c")
    event = protocol.next_event()
    assert event == b"abc"
    assert type(event) is bytes
    assert protocol.next_event() is NEED_DATA


def test_end_comes_after_the_data_and_stays():
    protocol = TcpProtocol(10)
    protocol.receive_data(b"ab")
    protocol.receive_data(b"")
    assert [protocol.next_event() for _ in range(3)] == [b"ab", EOF, EOF]


@pytest.mark.parametrize(
    "message", [b"\xc3\xa9", "é", bytearray(b"\xc3\xa9"), memoryview(b"\xc3\xa9")]
)
def test_encode(message):
    encoded = TcpProtocol(10).encode(message)
    assert encoded == b"\xc3\xa9"
    assert type(encoded) is bytes


@pytest.mark.parametrize("message", [None, 1, ("a",)])
def test_wrong_type_is_named(message):
    kind = type(message).__name__
    with pytest.raises(TypeError, match=rf"tcp protocol sends bytes.*dict or list, not {kind}"):
        TcpProtocol(10).encode(message)
