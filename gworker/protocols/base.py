"""The contract of a protocol: a pure machine between bytes and messages.

A protocol owns the bytes of one connection that are not yet messages. It knows no sockets, no
clock, no log, and never calls user code. Whoever drives it does, in this order:

    receive_data(data)    hand over what was read; b"" means that the peer has finished sending
    next_event()          ask until NEED_DATA, PAUSED or MORE; may raise ProtocolError (the end of
                          the road)
    data_to_send()        bytes that the protocol itself owes the peer: pong, close echo,
                          100-continue
    encode(message)       the bytes of one outgoing message
    close(code, reason)   the bytes of its goodbye

Not asking for the next event is the back-pressure. An event is either a message, which can be any
object at all, or an instance of `Control`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, Literal

from gworker.errors import ProtocolError

LARGE = 16384
"""Bytes from which on a message is not copied for the few that go before it: below that, one piece
is quicker."""


class Control:
    """Base of the events that are not messages."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


NEED_DATA = Control("NEED_DATA")
"""Nothing more until `receive_data` is called again."""

PAUSED = Control("PAUSED")
"""Nothing more until the answer in progress is encoded; bytes that arrive meanwhile are kept."""

MORE = Control("MORE")
"""Nothing yet, though there are bytes: much was read that is no message (pings, fragments, chunks).
Ask again when others have had their turn."""

STEPS = 16
"""So much of that is read at once, in frames or lines."""

EOF = Control("EOF")
"""The peer has finished, orderly: send what is owed, then close. It is the last event."""


class Handshake(Control):
    """The peer asks to open; nothing more is produced until `accept_handshake` or
    `refuse_handshake`."""

    __slots__ = ("request",)

    def __init__(self, request: Any) -> None:
        super().__init__("HANDSHAKE")
        self.request = request


class Opened(Control):
    """The other end has agreed to open what we, as the client, asked for: `response` is its
    answer."""

    __slots__ = ("response",)

    def __init__(self, response: Any) -> None:
        super().__init__("OPENED")
        self.response = response


class HttpEvent(Control):
    """Base of what HTTP has to tell besides requests (`http_transfer`)."""

    __slots__ = ()


class Switch(Control):
    """Go on with another protocol, which is fed `leftover` first."""

    __slots__ = ("leftover", "protocol")

    def __init__(self, protocol: Protocol, leftover: bytes) -> None:
        super().__init__("SWITCH")
        self.protocol = protocol
        self.leftover = leftover


class Protocol:
    """Base class of all protocols. One instance serves one connection.

    A connection can move to another process if pickle(3) can copy its protocol, with the bytes that
    it holds; a protocol whose state means something in its own process only says so in
    `migration_obstacle`.

    `max_package_size` is the largest message in bytes that the peer may send. No buffer of a
    protocol may hold more than that plus one read.

    `inflated_bytes`: by how many bytes the messages that were handed out are larger than what was
    read. A protocol that inflates adds to it; the driver bounds by it what is decoded ahead, and
    sets it to 0 again.
    """

    __slots__ = ("closing", "has_output", "inflated_bytes", "max_package_size")

    def __init_subclass__(cls) -> None:
        """A subclass that encodes in another way splits messages in another way, too, or not at
        all."""
        order = cls.__mro__
        encodes, splits = (
            next(base for base in order if name in vars(base)) for name in ("encode", "split")
        )
        if order.index(encodes) < order.index(splits):
            setattr(cls, "split", Protocol.split)  # noqa: B010 - a method is no attribute for the type checker

    name: ClassVar[str] = ""
    """What `status` and `connections` show."""

    reconnects_at_once: ClassVar[bool] = False
    """A peer that is sent away connects again at once: when many have to go, they go one by one."""

    over_datagrams: ClassVar[bool] = True
    """It makes sense without connections: each datagram holds whole messages."""

    lockstep: ClassVar[bool] = False
    """PAUSED lasts until the handler has returned, whatever arrives meanwhile (`Lockstep`)."""

    keeps_alive: ClassVar[bool] = False
    """It has exchanges between which the peer may rest (`is_resting`), for as long as `keep_alive`
    says."""

    def __init__(self, max_package_size: int) -> None:
        self.max_package_size = max_package_size
        self.inflated_bytes = 0
        self.has_output = False
        self.closing = False  # True: the connection is to end after the answer in progress

    def configure(self, options: Mapping[str, Any]) -> None:
        """Hear what its Worker says about protocols (`worker_options`), by name.

        Called once before the first byte, and again in each process that it moves to: that one's
        options hold from then on, for what is not settled with the peer.
        """

    def receive_data(self, data: bytes) -> None:
        """Store `data`; b"" says that the peer has finished sending."""
        raise NotImplementedError

    def next_event(self) -> Any:
        """Return the next message or a `Control`. Raises ProtocolError on what the peer may not
        send."""
        raise NotImplementedError

    @property
    def has_pending(self) -> bool:
        """False: `next_event` has nothing to tell but NEED_DATA, or EOF once the peer has finished
        sending. Need not be a bool."""
        return True

    def encode(self, message: Any) -> bytes:
        """Return the bytes of one outgoing message. Raises TypeError or ValueError on what it
        cannot carry."""
        raise NotImplementedError

    def split(self, message: Any) -> tuple[bytes, bytes] | None:
        """Return the two pieces that `encode` would join: the head, and the content of `message`,
        which is large.

        The content is sent, and kept for a slow peer, without being copied. It counts as encoded.
        None: `encode` does more than put a head before it.
        """
        return None

    @property
    def accepts_unsolicited(self) -> bool:
        """True while a message may be sent that answers nothing: what is sent to everybody."""
        return True

    @property
    def encoding(self) -> Hashable:
        """Two protocols whose keys are equal, and not None, encode a message alike: a broadcast
        does it once for all.

        None: `encode` depends on, or changes, what only this one knows.
        """
        return None

    def data_to_send(self) -> bytes:
        """Return and forget what the protocol itself owes the peer. `has_output` tells if there is
        any."""
        return b""

    def close(self, code: int = 1000, reason: str = "") -> bytes:
        """Return the bytes that end the conversation from our side; b"" if the protocol has none.

        The codes are WebSocket's (RFC 6455, 7.4.1). 1011 says that our side failed: a protocol that
        owes an answer gives an error answer then (an HTTP 500).
        """
        return b""

    def check_close(self, code: int, reason: str) -> None:
        """Raise ValueError unless `close` takes these."""

    def ping(self) -> bytes:
        """Return what makes a peer that is still there answer; b"" if the protocol has nothing
        such, or not now."""
        return b""

    @property
    def says_goodbye(self) -> bool:
        """Asked after `close()`. True: the peer's own goodbye (EOF) is awaited before the socket
        closes."""
        return False

    @property
    def is_answering(self) -> bool:
        """True while a message that was handed out still has to be answered: the answer can be
        encoded only here."""
        return False

    @property
    def awaits_answer(self) -> bool:
        """True while the message in hand has no answer yet, not even the beginning of one.

        Then what its handler returns is the answer, and a peer that has finished sending waits for
        it.
        """
        return False

    @property
    def is_sending(self) -> bool:
        """True while an answer is sent piece by piece: a polite end waits for its last one."""
        return False

    def notify_waiter(self) -> None:
        """Something has happened to the connection: whoever waits within an exchange may look."""

    def refuse(self, error: ProtocolError) -> bytes | None:
        """Return the reply to a message whose handler found it wrong (`RequestError`). It is the
        last one.

        None: there is no such reply, so what has escaped is an exception of the handler like any
        other.
        """
        return None

    @property
    def is_partial(self) -> bool:
        """True while a part of a message is here and the rest is not."""
        return False

    @property
    def is_resting(self) -> bool:
        """True between two exchanges of a protocol that has such: the peer may begin another one,
        or not."""
        return False

    def unfinished(self, received: int) -> int | None:
        """A number that stays the same while one message is arriving, and is another one for the
        next.

        received: bytes that came on this connection so far. None: no message has come in part, or
        the peer is under another deadline (`waiting_for`).
        """
        return None

    @property
    def migration_obstacle(self) -> str:
        """Why its connection cannot go on in another process, in a few words; "" if it can."""
        return ""

    def take_unparsed(self) -> bytes:
        """Return and forget the bytes that are not consumed: another protocol goes on with them."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot be left for another protocol: it has no take_unparsed()"
        )

    def waiting_for(self) -> Literal["", "handshake", "header", "body"]:
        """Which deadline the peer is under: it owes the rest of a handshake, header or body, or
        nothing ("").

        A handshake and a header have to be complete in time; of a body, something has to arrive.
        """
        return ""

    def timed_out(self) -> bytes:
        """Return the reply for a peer whose deadline has passed (an HTTP 408); b"" says nothing."""
        return b""

    def accept_handshake(self, headers: Any = ()) -> None:
        """Answer a `Handshake` with yes; the reply is in `data_to_send()`. `headers`: (name, value)
        pairs to add."""
        raise NotImplementedError

    def refuse_handshake(self, message: Any = None) -> None:
        """Answer a `Handshake` with no (with `message`, if given, as the reply)."""
        raise NotImplementedError
