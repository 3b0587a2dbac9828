"""The message half of a connection: what the peer says, in order, to the user's callbacks, one at a
time.

`_on_readable` runs in the hub: it reads, lets the protocol find messages, and puts them into the
inbox. The first of them takes a greenlet from the pool, which runs the user's callbacks one after
the other until the inbox is empty (`run`). So the callbacks of one connection never overlap and
keep the order of arrival; while a handler blocks, reading goes on into the inbox up to a bound.

What is not a message waits in the same inbox, as a `Control`, so that it has its turn too.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from greenlet import getcurrent, greenlet

from gworker.connection.context import INBOX_MESSAGES, ServerContext
from gworker.connection.events import LOST, RESUME, Refuse
from gworker.connection.obedient import Obedient
from gworker.connection.stream import (
    CLOSING,
    ESTABLISHED,
)
from gworker.connection.transport import PauseReason
from gworker.errors import ProtocolError
from gworker.protocols.base import (
    EOF,
    MORE,
    NEED_DATA,
    PAUSED,
    Control,
    HttpEvent,
    Protocol,
    Switch,
)
from gworker.system.peer_address import SocketAddress

if TYPE_CHECKING:
    import _socket

log = logging.getLogger("gworker")

INBOX_BYTES = 262144
"""What may wait for a busy handler before reading stops, and what is handled of one connection in a
turn of the event loop, as INBOX_MESSAGES.

What was inflated may be larger than what was read by as many bytes, and by one message.
"""

QUEUED = greenlet()
"""In place of the greenlet of a job that goes on in the next turn of the event loop: nobody else is
to begin it."""

MAX_UNASKED = 65536
"""Bytes that a peer may send while an answer is due to it, or while it is sent events: they are
kept for their turn."""


class Dialogue(Obedient):
    """What fills the inbox, and the job in which it is worked off."""

    __slots__ = ("_backlog", "_paused")

    def __init__(
        self,
        service: ServerContext,
        socket: _socket.socket,
        remote: SocketAddress,
        protocol: Protocol,
        id: int | None = None,
    ) -> None:
        super().__init__(service, socket, remote, protocol, id)
        self._backlog = 0
        self._paused = False
        self._enter_books()

    @property
    def is_held(self) -> bool:
        """True while it is not read, whatever the peer sends, because somebody here wants it so."""
        return self._transport.pause_reasons & PauseReason.ON_PURPOSE != 0

    @property
    def is_idle(self) -> bool:
        """True if no handler runs and nothing waits: neither a message nor bytes to send."""
        return (
            self._job is None
            and self._inbox is None
            and self._transport.write_buffer is None
            and not self._paused
        )

    # ---- receiving: in the hub

    def data_received(self, data: bytes) -> None:
        if self._observer is not None:
            self._observer.received()
        if data and (self._job is not None or self._paused):
            self._count_backlog(len(data))
        self._pull(data)
        if self._inbox is not None:
            if self._job is None:
                self._service.pool.start(self)
            else:
                self._wake_handler()
        elif self._transport.pause_reasons and not self._paused and self._waits_for_peer():
            # nobody else would go on with it
            self._transport.resume(PauseReason.BACKPRESSURE)

    def reset_received(self) -> None:
        self._deliver(LOST)

    def _count_backlog(self, size: int) -> None:
        """`size` bytes were read while the handler is busy: above a bound, stop reading."""
        self._backlog += size
        most = min(INBOX_BYTES, self._protocol.max_package_size)
        if (
            self._paused
        ):  # while an answer is due, reading on is the only way to see that the peer leaves
            most = min(most, MAX_UNASKED) if self._protocol.keeps_alive else 0
        if self._backlog >= most:
            self._transport.pause(PauseReason.BACKPRESSURE)

    def _look_for_handler(self) -> None:
        """The protocol goes on after an answer. If no handler runs that could give it, the peer's
        end is the end."""
        if self._inbox is not None or not self._protocol.awaits_answer:
            return
        if self._job is None or self._job is getcurrent() or self._waits_for_peer():
            self._transport.resume(
                PauseReason.HANDOVER
            )  # no request is taken before the answer, but the end is to be heard
            if self._transport.eof_received:
                self._put(EOF)
            elif (handler := self._callbacks.on_message) is not None:
                self._service.unanswered.watch(self, handler)

    def _waits_for_peer(self) -> bool:
        """True if nothing goes on here until more has come."""
        return self._job is None

    def _pull(self, data: bytes | None = None) -> None:
        """Hand `data` to the protocol, and move what it has ready into the inbox."""
        protocol = self._protocol
        inbox = self._inbox
        try:
            if data is not None:
                protocol.receive_data(data)
            if self._paused:
                is_run = data is not None and (self._job is not None or self._inbox is not None)
                if (
                    is_run and (protocol.lockstep or protocol.inflated_bytes >= INBOX_BYTES)
                ) or not self._has_room():
                    return  # who works off the inbox asks when that is done
                self._paused = False
            event = protocol.next_event()
            if event is NEED_DATA:
                self._set_deadline()
            while event is not NEED_DATA:
                if event is PAUSED:
                    self._paused = True
                    if data is None or self._transport.eof_received:
                        self._look_for_handler()
                    break
                if event is MORE:
                    self._paused = True
                    self._put(MORE)
                    break
                if event.__class__ is Switch:
                    protocol = self._switch_to(event)
                elif inbox is None:
                    inbox = self._inbox = [event]
                else:
                    inbox.append(event)
                    if len(inbox) >= self._service.batch:
                        self._paused = True
                        break
                if event is EOF:
                    break
                if protocol.inflated_bytes >= INBOX_BYTES:
                    self._paused = True
                    break
                event = protocol.next_event()
        except ProtocolError as error:
            self._put(Refuse(error))
        except BaseException:
            self._protocol_failed()
        try:
            if self._observer is not None:
                self._observer.parsed()
            if protocol.has_output:
                self._write_output()
        except BaseException:
            self._protocol_failed()

    def _switch_to(self, event: Switch) -> Protocol:
        self._protocol = protocol = event.protocol
        if self._observer is not None:
            self._observer.switched(protocol)
        self._configure(protocol)
        if event.leftover:
            protocol.receive_data(event.leftover)
        return protocol

    def _write_output(self) -> None:
        """Send what the protocol owes by itself. A peer that does not take it is not read any
        further."""
        self._write(self._protocol.data_to_send())
        if (
            self._transport.write_buffer is not None
            and self._transport.write_buffer.size >= self.max_send_buffer_size
        ):
            self._transport.pause(PauseReason.WRITE_BLOCKED)

    def _set_deadline(self) -> None:
        timeouts, owed = self._service.timeouts, self._protocol.waiting_for()
        if owed or timeouts.pending:
            timeouts.expect(self, owed)

    def deadline_passed(self) -> None:
        """The peer did not finish its handshake or header in time, or its body comes too slowly:
        tell it, and close."""
        if self._state is not ESTABLISHED:
            return
        if self.is_held:  # nothing can come of it
            self._set_deadline()
        elif self._protocol.waiting_for():
            self._close(self._protocol.timed_out())

    def resume_recv(self) -> None:
        was_held = self._transport.pause_reasons & PauseReason.USER
        super().resume_recv()
        if was_held and self._state is ESTABLISHED:  # it has lost none of its time
            self._service.timeouts.restart(self, self._protocol.waiting_for())

    @property
    def is_lost(self) -> bool:
        """True if the peer has reset it, and that was not worked off yet."""
        return LOST in (self._inbox or ())

    # ---- the user's callbacks: in a pooled greenlet

    def run(self, me: greenlet) -> None:
        """Work off the inbox. One greenlet at a time: a second one leaves at once."""
        if self._job is not None:
            return
        self._job = me
        handled = 0
        while (batch := self._inbox) is not None:
            self._inbox = None
            if self._service.holder is not None and self._state is ESTABLISHED:
                # What has come so far is answered here, what comes from now on by our successor.
                self._service.holder.hold(self)
            for event in batch:
                if isinstance(event, Control):
                    self._obey(event)
                elif self._state is ESTABLISHED:
                    self._service.requests += 1
                    callback = self._callbacks.on_message
                    if callback is not None:
                        try:
                            value = callback(self, event)
                            if value is not None and self._protocol.keeps_alive:
                                self._answer(callback, value)
                        except BaseException:
                            self._failed("on_message")
            if self._paused and self._inbox is None and self._may_ask():
                handled += len(batch) if batch[-1] is not MORE else INBOX_MESSAGES
                batch = event = None  # of two that were inflated, only one at a time is here
                if handled >= INBOX_MESSAGES or self._protocol.inflated_bytes >= INBOX_BYTES:
                    self._wait_for_turn()
                    return
                if self._service.timeouts.pending:
                    self._service.timeouts.expect(self, "")
                self._pull()
        self._job = None
        self._backlog = 0
        if self._service.on_job_end is not None:
            self._service.on_job_end(self)
        if self._transport.pause_reasons and not self._paused:
            self._transport.resume(PauseReason.BACKPRESSURE)

    def _wait_for_turn(self) -> None:
        """Go on in the next turn of the event loop: others have theirs before it."""
        self._protocol.inflated_bytes = 0
        self._put(RESUME)
        self._transport.pause(PauseReason.BACKPRESSURE)
        self._job = QUEUED
        self._service.run_queue.add(self._take_turn)

    def _take_turn(self) -> None:
        self._job = None
        if self._state is ESTABLISHED or self._awaiting:
            self._transport.resume(PauseReason.BACKPRESSURE)
        self._service.pool.start(self)

    def _exchange(self, event: HttpEvent) -> None:
        from gworker.connection.http_exchange import obey  # what speaks no HTTP does not load it

        obey(self, event)

    def _may_ask(self) -> bool:
        """The protocol has kept something back: a request, or the peer's goodbye if that is
        awaited."""
        if self._state is ESTABLISHED:
            is_held_back = (
                self._service.takes_no_more and self._transport.pause_reasons & PauseReason.HANDOVER
            )
            return self._has_room() and (not is_held_back or self._protocol.is_answering)
        return self._state is CLOSING and self._awaiting

    def _has_room(self) -> bool:
        """No further request is read while the answers to those before it fill the send buffer."""
        outbox = self._transport.write_buffer
        if outbox is None:
            return True
        if self._observer is not None and not self._observer.has_room:
            return False
        return outbox.size < self.max_send_buffer_size or self._state is CLOSING
