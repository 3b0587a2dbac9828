"""What a protocol may have besides messages. Each capability has a default that means "none", so a
protocol defines only what it has."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, Literal

from gworker.errors import ProtocolError


class Capabilities:
    """Base of `Protocol`."""

    __slots__ = ()

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
        raise NotImplementedError

    def refuse_handshake(self, message: Any = None) -> None:
        """Answer a `Handshake` with no (with `message`, if given, as the reply)."""
        raise NotImplementedError

    def ping(self) -> bytes:
        """Return what makes a peer that is still there answer; b"" if the protocol has nothing
        such, or not now."""
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
        """Return and forget the bytes that are not consumed. Another protocol gets them."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot be left for another protocol: it has no take_unparsed()"
        )
