"""Broadcasts: which connections get the message, and how often it is encoded."""

from __future__ import annotations

from typing import Any

import pytest

from gworker.app.broadcast import broadcast
from gworker.errors import SendBufferFull
from gworker.protocols import PackageProtocol, Protocol, get


class Listener:
    """As much of a connection as a broadcast sees."""

    def __init__(
        self, protocol: Protocol, accepts_unsolicited: bool = True, takes: bool = True
    ) -> None:
        self.accepts_unsolicited = accepts_unsolicited
        self.sent: list[Any] = []
        self._protocol = protocol
        self._takes = takes

    @property
    def encoding(self) -> Any:
        return self._protocol.encoding

    def encode(self, message: Any) -> bytes:
        return self._protocol.encode(message)

    def send(self, data: Any, raw: bool = False) -> bool:
        self.sent.append(data if raw else self._protocol.encode(data))
        return self._takes


class Counted(get("text")):  # type: ignore[misc]
    encoded = 0

    def encode(self, message: Any) -> bytes:
        Counted.encoded += 1
        encoded: bytes = super().encode(message)
        return encoded


class Own(PackageProtocol):
    def encode(self, message: Any) -> bytes:
        Counted.encoded += 1
        return b"<" + message.encode() + b">"


@pytest.fixture(autouse=True)
def fresh() -> None:
    Counted.encoded = 0


def test_all_get_it_and_it_is_encoded_once() -> None:
    people: list[Any] = [Listener(Counted(100)) for _ in range(50)]
    assert broadcast(people, "hello") == 50
    assert [each.sent for each in people] == [[b"hello\n"]] * 50
    assert Counted.encoded == 1


def test_each_kind_is_encoded_for_itself() -> None:
    text, frame, own = Listener(Counted(100)), Listener(get("frame")(100)), Listener(Own(100))
    people: list[Any] = [text, frame, own, Listener(Own(100))]
    assert broadcast(people, "hello") == 4
    assert (text.sent, frame.sent, own.sent) == ([b"hello\n"], [b"\0\0\0\x09hello"], [b"<hello>"])
    assert Counted.encoded == 3, "what a user's protocol makes of a message is its own affair"


def test_who_does_not_get_it() -> None:
    closing, left_out = Listener(Counted(100), accepts_unsolicited=False), Listener(Counted(100))
    full = Listener(Counted(100), takes=False)
    people: list[Any] = [closing, left_out, full]
    assert broadcast(people, "hello", exclude=[left_out]) == 0  # type: ignore[list-item]
    assert (closing.sent, left_out.sent, full.sent) == ([], [], [b"hello\n"])


def test_what_cannot_be_sent_is_told_at_once() -> None:
    people: list[Any] = [Listener(Counted(100)), Listener(Counted(100))]
    with pytest.raises(ValueError, match="one line"):
        broadcast(people, "two\nlines")
    assert [each.sent for each in people] == [[], []]


def test_a_fault_of_one_keeps_it_from_no_other() -> None:
    class Broken(Own):
        def encode(self, message: Any) -> bytes:
            raise ValueError("out of ink")

    people: list[Any] = [Listener(Own(100)), Listener(Broken(100)), Listener(Own(100))]
    with pytest.raises(ValueError, match="out of ink"):
        broadcast(people, "hello")
    assert [each.sent for each in people] == [[b"<hello>"], [], [b"<hello>"]]


def test_answers_and_handshakes_are_not_for_broadcasts() -> None:
    """A message that is sent to all must not become the answer to a request."""
    assert [get(name)(100).accepts_unsolicited for name in ("http", "websocket", "text")] == [
        False,
        False,
        True,
    ]


def test_before_its_handshake_a_websocket_keeps_so_much_and_no_more() -> None:
    peer = get("websocket")(100)
    with pytest.raises(SendBufferFull):
        for _ in range(100):
            assert peer.encode(b"x" * 100_000) == b""
    assert len(peer._output) < 2 * 1024 * 1024  # type: ignore[attr-defined]


def test_a_websocket_that_is_not_open_yet_encodes_for_itself() -> None:
    assert get("websocket")(100).encoding is None
