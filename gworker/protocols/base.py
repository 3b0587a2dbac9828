"""The contract of a protocol: a pure machine between bytes and messages.

A protocol owns the bytes of one connection that are not yet messages. It knows no sockets, no
clock, no log, and never calls user code. Its driver, the connection, calls in this order:

    receive_data(data)    hand over what was read; b"" means that the peer has finished sending
    next_event()          ask until NEED_DATA, PAUSED or MORE; may raise ProtocolError (the last
                          thing that it says)
    data_to_send()        bytes that the protocol itself owes the peer: pong, close echo,
                          100-continue
    encode(message)       the bytes of one outgoing message
    close(code, reason)   the bytes that end the conversation

Not asking for the next event is the back-pressure. An event is either a message, which can be any
object at all, or an instance of `Control`. Whatever else a protocol may say is optional:
`capabilities`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gworker.protocols.capabilities import Capabilities

if TYPE_CHECKING:
    from gworker.http.request import Request
    from gworker.http.response import Response

# Bytes from which on a message is not copied for the few that go before it: below that, one piece
# is quicker.
LARGE = 16384


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

# Frames or lines of that which are read before MORE.
STEPS = 16

# The close code (RFC 6455, 7.4.1) that says that our side failed.
INTERNAL_ERROR = 1011


class Eof(Control):
    __slots__ = ()


EOF = Eof("EOF")
"""The peer has finished, orderly: send what is owed, then close. It is the last event."""


class Handshake(Control):
    """The peer asks to open; nothing more is produced until `accept_handshake` or
    `refuse_handshake`."""

    __slots__ = ("request",)

    def __init__(self, request: Request) -> None:
        super().__init__("HANDSHAKE")
        self.request = request


class Opened(Control):
    """The server has agreed to open what we asked for: `response` is its answer."""

    __slots__ = ("response",)

    def __init__(self, response: Response) -> None:
        super().__init__("OPENED")
        self.response = response


class HttpEvent(Control):
    """Base of what HTTP has to tell besides requests (`http.events`)."""

    __slots__ = ()


class Switch(Control):
    """Go on with another protocol, which is fed `leftover` first."""

    __slots__ = ("leftover", "protocol")

    def __init__(self, protocol: Protocol, leftover: bytes) -> None:
        super().__init__("SWITCH")
        self.protocol = protocol
        self.leftover = leftover


class Protocol(Capabilities):
    """Base class of all protocols. One instance serves one connection.

    A connection can move to another process if pickle(3) can copy its protocol, with the bytes that
    it holds; a protocol whose state means something in its own process only says so in
    `migration_obstacle`.

    max_package_size: bytes of the largest message that the peer may send. No buffer of a protocol
    may hold more than that plus one read.
    has_output: whether `data_to_send` has anything to return.
    closing: set by the driver: the connection is to end after the answer in progress.
    inflated_bytes: by how many bytes the messages that were handed out are larger than what was
    read. A protocol that inflates adds to it; the driver bounds by it what is decoded ahead, and
    sets it to 0 again.
    """

    __slots__ = ("closing", "has_output", "inflated_bytes", "max_package_size")

    def __init_subclass__(cls) -> None:
        # Let what depends on a method not outlive it: a subclass that encodes in another way does
        # not split messages as before, one that reads in another way has to be asked each time.
        for method, dependent in (("encode", "split"), ("next_event", "has_pending")):
            first = next(each for each in cls.__mro__ if {method, dependent} & vars(each).keys())
            if dependent not in vars(first):
                setattr(cls, dependent, getattr(Protocol, dependent))

    def __init__(self, max_package_size: int) -> None:
        self.max_package_size = max_package_size
        self.inflated_bytes = 0
        self.has_output = False
        self.closing = False

    def receive_data(self, data: bytes) -> None:
        """Store `data`; b"" says that the peer has finished sending."""
        raise NotImplementedError

    def next_event(self) -> Any:
        """Return the next message or a `Control`. Raises ProtocolError on what the peer may not
        send."""
        raise NotImplementedError

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
