"""The bytes that are not yet messages."""

from __future__ import annotations

import pytest

from gworker.errors import ProtocolError
from gworker.protocols import EOF, NEED_DATA
from gworker.protocols.buffered import BufferedProtocol, to_bytes


class Pairs(BufferedProtocol):
    """Messages are two bytes."""

    __slots__ = ()

    has_pending = BufferedProtocol.has_pending

    def next_event(self):
        if len(self._buffer) - self._pos < 2:
            return self._wait()
        message = bytes(self._buffer[self._pos : self._pos + 2])
        if message == b"!!":
            raise self._fail("no such pair", b"bye")
        self._consume(self._pos + 2)
        return message


def fed(*pieces):
    protocol = Pairs(100)
    for piece in pieces:
        protocol.receive_data(piece)
    return protocol


def test_messages_of_one_read_and_of_several():
    for protocol in (fed(b"aabbc"), fed(b"a", b"ab", b"bc")):
        assert [protocol.next_event() for _ in range(3)] == [b"aa", b"bb", NEED_DATA]
        assert protocol.is_partial
        assert protocol.has_pending
        assert protocol.take_unparsed() == b"c"
        assert not protocol.has_pending


def test_nothing_is_kept_of_what_is_consumed():
    protocol = fed(b"aa" * 1000)
    while protocol.next_event() is not NEED_DATA:
        pass
    assert not protocol.is_partial
    assert protocol.take_unparsed() == b""


def test_the_rest_of_a_message_that_cannot_come_is_dropped():
    protocol = fed(b"aab", b"")
    assert [protocol.next_event() for _ in range(3)] == [b"aa", EOF, EOF]
    assert not protocol.is_partial


def test_what_comes_after_the_end_is_not_wanted():
    protocol = fed(b"", b"aa")
    assert protocol.next_event() is EOF


def test_after_a_fault_it_is_deaf():
    protocol = fed(b"!!aa")
    with pytest.raises(ProtocolError) as caught:
        protocol.next_event()
    assert caught.value.reply == b"bye"
    protocol.receive_data(b"aa")
    assert protocol.next_event() is EOF


def test_each_message_in_part_starts_elsewhere():
    protocol = fed(b"a")
    assert protocol.message_start(1) == 0
    protocol.receive_data(b"ab")
    assert protocol.next_event() == b"aa"
    assert protocol.message_start(3) == 2
    protocol.receive_data(b"b")
    assert protocol.next_event() == b"bb"
    assert protocol.message_start(4) is None


def test_what_can_be_sent_as_bytes():
    for message in (b"ab", "ab", bytearray(b"ab"), memoryview(b"ab")):
        assert to_bytes(message, "x") == b"ab"
    with pytest.raises(TypeError, match="the x protocol sends .*, not int"):
        to_bytes(5, "x")
