"""The defaults of what a protocol may have."""

from __future__ import annotations

import pytest

from gworker.protocols import NEED_DATA, Protocol
from gworker.protocols.capabilities import Capabilities


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
        with pytest.raises(NotImplementedError):
            call()


def test_they_take_no_memory():
    assert Capabilities.__slots__ == ()
    assert len(Protocol.__slots__) == 4
