"""The contract of a protocol: a pure machine between bytes and messages.

A protocol owns the bytes of one connection that are not yet messages. It knows no sockets, no
clock, no log, and never calls user code. Its driver, the connection, calls in this order:

    receive_data(data)    hand over what was read; b"" means that the peer has finished sending
    receive_buffer        where it may read to instead, while a large message arrives
    next_event()          ask until NEED_DATA, PAUSED or MORE; may raise ProtocolError (the last
                          thing that it says)
    data_to_send()        bytes that the protocol itself owes the peer: pong, close echo,
                          100-continue
    encode(message)       the bytes of one outgoing message
    close(code, reason)   the bytes that end the conversation

Not asking for the next event is the back-pressure. An event is either a message, which can be any
object at all, or an instance of `Control`. Whatever else a protocol may say is optional: each such
member of `Protocol` has a default that means "none".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gworker.errors import ProtocolError

if TYPE_CHECKING:
    from gworker.core import ReceiveBuffer
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


@dataclass(slots=True, eq=False, repr=False)
class Handshake(Control):
    """The peer asks to open; nothing more is produced until `accept_handshake` or
    `refuse_handshake`."""

    name = "HANDSHAKE"
    request: Request


@dataclass(slots=True, eq=False, repr=False)
class Opened(Control):
    """The server has agreed to open what we asked for: `response` is its answer."""

    name = "OPENED"
    response: Response


class HttpEvent(Control):
    """Base of what HTTP has to tell besides requests (`http.streaming`)."""

    __slots__ = ()


@dataclass(slots=True, eq=False, repr=False)
class Switch(Control):
    """Go on with another protocol, which is fed `leftover` first."""

    name = "SWITCH"
    protocol: Protocol
    leftover: bytes


class Protocol(ABC):
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
        # not split messages as before, one that reads in another way has to be asked each time, and
        # is given all bytes.
        for method, dependent in (
            ("encode", "split"),
            ("next_event", "has_pending"),
            ("receive_data", "receive_buffer"),
        ):
            first = next(each for each in cls.__mro__ if {method, dependent} & vars(each).keys())
            if dependent not in vars(first):
                setattr(cls, dependent, getattr(Protocol, dependent))

    def __init__(self, max_package_size: int) -> None:
        self.max_package_size = max_package_size
        self.inflated_bytes = 0
        self.has_output = False
        self.closing = False

    @abstractmethod
    def receive_data(self, data: bytes) -> None:
        """Store `data`; b"" says that the peer has finished sending."""

    @property
    def receive_buffer(self) -> ReceiveBuffer | None:
        """The memory to which the bytes belong that come next, until it is full.

        The driver may read into it after NEED_DATA, in place of `receive_data`, and then asks for
        the next event, if it is full or `is_watched`. None: all bytes go to `receive_data`.
        """
        return None

    @abstractmethod
    def next_event(self) -> Any:
        """Return the next message or a `Control`. Raises ProtocolError on what the peer may not
        send."""

    def encode(self, message: Any) -> bytes:
        """Return the bytes of one outgoing message. Raises TypeError or ValueError on what it
        cannot carry."""
        raise TypeError(f"{type(self).__name__} has no encode(): it can only receive")

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

    # --- what holds for all connections of a class

    name: ClassVar[str] = ""
    """What `status` and `connections` show."""

    over_datagrams: ClassVar[bool] = True
    """It makes sense without connections: each datagram holds whole messages."""

    lockstep: ClassVar[bool] = False
    """The next message is asked for when the handler of this one has returned (`Lockstep`)."""

    keeps_alive: ClassVar[bool] = False
    """Each message is a request that is answered; between two of them the peer may rest for as
    long as `keep_alive` says."""

    reconnects_at_once: ClassVar[bool] = False
    """A peer that is sent away connects again at once: when many have to go, they go one by one."""

    def configure(self, options: Mapping[str, Any]) -> None:
        """Take the options about protocols that its Worker has, by name.

        Called once before the first byte, and again in each process that it moves to: the options
        of that process hold from then on, for what is not settled with the peer.
        """

    # --- messages

    @property
    def has_pending(self) -> bool:
        """False: `next_event` has nothing to tell but NEED_DATA, or EOF once the peer has finished
        sending. Need not be a bool."""
        return True

    @property
    def accepts_unsolicited(self) -> bool:
        """True while a message may be sent that answers nothing, as broadcasts are."""
        return True

    @property
    def encoding(self) -> Hashable:
        """Two protocols whose keys are equal, and not None, encode a message alike: a broadcast
        encodes it once for all of them.

        None: `encode` depends on, or changes, what only this one knows.
        """
        return None

    @property
    def streams_stalled(self) -> bool:
        """True while a message is read whole that could be handed out before its end
        (`stream_rest`)."""
        return False

    def stream_rest(self) -> Any:
        """Return the event that hands out the message that is arriving, in parts; None: it has to
        be whole."""
        return None

    # --- deadlines

    @property
    def is_partial(self) -> bool:
        """True while a part of a message is here and the rest is not."""
        return False

    def message_start(self, received: int) -> int | None:
        """A number that stays the same while one message is arriving, and is another one for the
        next.

        received: bytes that came on this connection so far. None: no message has come in part, or
        the peer is under another deadline (`waiting_for`).
        """
        return None

    def waiting_for(self) -> Literal["", "handshake", "header", "body"]:
        """Which deadline the peer is under: it owes the rest of a handshake, header or body, or
        nothing ("").

        A handshake and a header have to be complete in time; of a body, something has to arrive.
        """
        return ""

    def timed_out(self) -> bytes:
        """Return the reply for a peer whose deadline has passed (an HTTP 408); b"": none."""
        return b""

    # --- answers

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
        """Called when something happens to the connection, for what waits within an exchange."""

    def refuse(self, error: ProtocolError) -> bytes | None:
        """Return the reply to a message whose handler found it wrong (`RequestError`). It is the
        last one.

        None: there is no such reply, so what has escaped is an exception of the handler like any
        other.
        """
        return None

    # --- opening and closing

    def accept_handshake(self, headers: Any = ()) -> None:
        """Answer a `Handshake` with yes; the reply is in `data_to_send()`. `headers`: (name, value)
        pairs to add."""
        raise TypeError(f"{type(self).__name__} has no accept_handshake(): it asks for none")

    def refuse_handshake(self, message: Any = None) -> None:
        """Answer a `Handshake` with no (with `message`, if given, as the reply)."""
        raise TypeError(f"{type(self).__name__} has no refuse_handshake(): it asks for none")

    def ping(self, payload: bytes = b"") -> bytes:
        """Return what makes a peer that is still there answer; b"" if the protocol has nothing
        such, or not now. ValueError for a payload that it cannot carry."""
        return b""

    def check_close(self, code: int, reason: str) -> None:
        """Raise ValueError unless `close` takes these."""

    @property
    def awaits_peer_close(self) -> bool:
        """Asked after `close()`. True: the socket is closed when the peer has closed, too (EOF)."""
        return False

    # --- going on elsewhere

    @property
    def migration_obstacle(self) -> str:
        """Why its connection cannot move to another process, in a few words; "" if it can."""
        return ""

    def take_unparsed(self) -> bytes:
        """Return and forget the bytes that are not consumed. Another protocol gets them.

        Raises TypeError: a connection cannot go on with another protocol after this one.
        """
        raise TypeError(
            f"{type(self).__name__} cannot be left for another protocol: it has no take_unparsed()"
        )
