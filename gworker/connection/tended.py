"""What a process looks after in its connections: whether one rests, is silent, comes back, and how
it retires."""

from __future__ import annotations

from gworker.connection.events import RESUME
from gworker.connection.min_rate import NOT_PEERS_FAULT
from gworker.connection.stream import CLOSED, ESTABLISHED, LEAVING
from gworker.connection.transport import PauseReason
from gworker.handover.state import Moving
from gworker.protocols.base import INTERNAL_ERROR


class Tended(Moving):
    """A connection as the deadlines, the pings and the retirement of its process see it."""

    __slots__ = ()

    @property
    def is_resting(self) -> bool:
        """True between two exchanges: the peer may ask again, or not."""
        protocol = self._protocol
        return protocol.keeps_alive and not protocol.waiting_for() and not protocol.is_answering

    @property
    def unfinished(self) -> int | None:
        """Which message has come in part, as a number; None: none, or it is ours to read on."""
        return (
            None
            if self._transport.pause_reasons or self._paused
            else self._protocol.message_start(self.bytes_read)
        )

    @property
    def body_progress(self) -> int | None:
        """For `pace`: what has come so far; None: no body is arriving."""
        if self._state is CLOSED or self._protocol.waiting_for() != "body":
            return None
        return (
            NOT_PEERS_FAULT
            if self._transport.pause_reasons or self._paused or self._state is LEAVING
            else self.bytes_read
        )

    @property
    def attempt(self) -> int:
        """Counts those of a connection that is dialled (`client_connection`)."""
        return 0

    @property
    def is_answering(self) -> bool:
        """True while its protocol owes an answer."""
        return self._protocol.is_answering

    @property
    def awaits_answer(self) -> bool:
        """True while the peer has asked and nothing of the answer is there."""
        return self._protocol.awaits_answer

    @property
    def reconnects_at_once(self) -> bool:
        """True if the peer, sent away, is likely to connect again at once."""
        return self._protocol.reconnects_at_once

    def notify_waiter(self) -> None:
        """The process begins to retire: an exchange that has no end of its own looks for one."""
        self._protocol.notify_waiter()

    def hold_back(self) -> None:
        """The process takes nothing more: read no further, but for the body that a handler waits
        for, and the end of a client whose answer is due."""
        if not (self._protocol.awaits_answer if self._job is None else self._has_body_to_read):
            self._transport.pause(PauseReason.HANDOVER)

    def read_on(self) -> None:
        """Nobody takes it over for now: go on with what it has sent."""
        if self._transport.pause_reasons & PauseReason.HANDOVER and self._state is ESTABLISHED:
            self._transport.resume(PauseReason.HANDOVER)
            if self._paused:
                self._deliver(RESUME)

    def retire(self, code: int, patient: bool) -> bool:
        """The process is retiring: end as soon as nothing is cut off by it. True: that was decided
        now.

        patient: a peer that is about to ask, or may, is still given time for that; then the answer
        says that it is the last. code: the close code for protocols that have one.
        """
        if self._state is not ESTABLISHED:
            return False
        protocol = self._protocol
        was_closing, protocol.closing = protocol.closing, True
        self.read_on()
        is_decided = protocol.keeps_alive and not was_closing
        if patient and self.may_still_ask:
            return is_decided
        if not self._transport.eof_received and not self._transport.pause_reasons:
            self._transport.on_readable()  # what has arrived but was not read yet must not be lost
        if self._state is not ESTABLISHED or not self.is_idle or self._has_body_to_read:
            return is_decided  # a body may take as long as something of it comes
        if patient and self.may_still_ask:
            return False
        self._say_farewell(code)
        return True

    def end_between_messages(self, code: int, strict: bool) -> bool:
        """Its handler has ended, or waits: end if the peer has sent nothing more. True: it has.
        From any greenlet.

        strict: also if it has. That is lost, as if it had come a moment later.
        """
        if self._state is not ESTABLISHED or not self.is_idle or self.may_still_ask:
            return False
        if not self._transport.has_unread():
            self._say_farewell(code)
        elif strict:
            protocol = self._protocol
            farewell = protocol.close(code)
            self._close(farewell, awaiting=protocol.awaits_peer_close and farewell != b"")
        else:
            return False
        return True

    @property
    def may_still_ask(self) -> bool:
        """True if the peer has begun to ask, or is given time for that because the answer says that
        it is the last."""
        protocol = self._protocol
        return protocol.keeps_alive or protocol.is_partial or protocol.waiting_for() != ""

    def _say_farewell(self, code: int) -> None:
        """Close, with nothing unread or unsent.

        While something is on its way to the peer, a reset could cost the peer that: then the socket
        lingers.
        """
        protocol = self._protocol
        farewell = protocol.close(code)
        if farewell or self._transport.unacknowledged:
            self._close(farewell, awaiting=protocol.awaits_peer_close and farewell != b"")
            return
        self._transport.finish_sending()
        self._finish(abort=True)

    def ping(self) -> bool:
        """Ask the peer for a sign of life, unless it is busy taking what is queued. False: there is
        no asking it."""
        if self._state is not ESTABLISHED or not (ping := self._protocol.ping()):
            return False
        return self._transport.write_buffer is not None or self._write(ping)

    def is_silent(self, read: int, written: int) -> bool:
        """True if nothing has come since `bytes_read` was `read`, and, unless -1, nothing went
        since `written`."""
        if (
            self._state is not ESTABLISHED
            or self._transport.pause_reasons
            or written not in (-1, self.bytes_written)
        ):
            return False
        if not self._transport.eof_received and self.bytes_read == read:
            # an answer may wait in the socket of a process that was busy
            self._transport.on_readable()
        return self._state is ESTABLISHED and self.bytes_read == read

    def expire(self) -> None:
        """The peer does not answer: tell it, and wait for nothing."""
        self._close(self._protocol.close(INTERNAL_ERROR, "no answer to a ping"))
