"""What has come for a connection, worked off in order, one thing at a time.

A `Job` holds the messages and events that wait, and is run by a pooled greenlet until none is left;
it exists only while there is work. So the callbacks of one connection never overlap and keep the
order of arrival; while a handler blocks, reading goes on into the job up to a bound.

Messages go to on_message by the short way. What happens for an event stands in `handlers.HANDLERS`,
by its type. What a callback, or a user's protocol, lets escape costs this connection only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from greenlet import getcurrent
from greenlet import greenlet as Greenlet

from gworker.connection.context import QUEUE_MESSAGES, ServerContext
from gworker.connection.registry import Member
from gworker.connection.state import AWAITING_CLOSE, ESTABLISHED, PauseReason, State
from gworker.connection.transport import Transport
from gworker.connection.unanswered import name_of
from gworker.core import JobState
from gworker.protocols.base import MORE, Control, HttpEvent
from gworker.protocols.base import Protocol as ProtocolMachine

if TYPE_CHECKING:
    from gworker.app.callbacks import Callbacks
    from gworker.connection.access_recorder import Observer
    from gworker.errors import ErrorCode
    from gworker.messages.membership import Membership

log = logging.getLogger("gworker")

QUEUE_BYTES = 262144
"""What may wait for a busy handler before reading stops, and what is handled of one connection in a
turn of the event loop, as QUEUE_MESSAGES.

What was inflated may be larger than what was read by as many bytes, and by one message.
"""

QUEUED = Greenlet()
"""In place of the greenlet of a job that goes on in the next turn of the event loop: no other may
begin it."""

Handler = Callable[[Any, Any], None]


class AnyConnection(Member, Protocol):
    """A connection as its parts see it."""

    accepted_at: int
    app_context: Any
    callbacks: Callbacks
    event_job: Job | None
    headers: Any
    io: Transport
    lifecycle: State
    membership: Membership | None
    migration: Any
    observer: Observer | None
    on_close: Any
    parser_paused: bool
    protocol_machine: ProtocolMachine
    request: Any
    server_context: ServerContext

    @property
    def handlers(self) -> Mapping[type, Handler]: ...
    @property
    def is_full(self) -> bool: ...
    @property
    def shakes_hands(self) -> bool: ...
    def begin_close(self, farewell: bytes, awaiting: bool = False) -> None: ...
    def call(self, name: str, *arguments: Any) -> None: ...
    def configure(self, protocol: ProtocolMachine) -> None: ...
    def continue_parsing(self) -> None: ...
    def destroy(self) -> None: ...
    def drain(self, timeout: float | None = None) -> bool: ...
    def end(self, abort: bool = False, reset: bool = False) -> None: ...
    def enqueue(self, event: Any) -> Job: ...
    def fail(self, code: ErrorCode, message: str) -> None: ...
    def handler_failed(self, name: str) -> None: ...
    def may_parse(self) -> bool: ...
    def notify(self, name: str, *arguments: Any) -> None: ...
    def parse(self, data: bytes | None = None, event: Any = None) -> None: ...
    def post(self, event: Any) -> None: ...
    def read_on(self) -> None: ...
    def recv(self, timeout: float | None = None) -> Any: ...
    def reject_send(self, message: str) -> bool: ...
    def send(self, data: Any, raw: bool = False) -> bool: ...
    def set_callback(self, name: str, function: Any) -> None: ...
    def tell_drained(self) -> None: ...
    def wake(self) -> None: ...
    def write(self, data: bytes) -> bool: ...
    def write_output(self) -> None: ...


class Job(JobState):
    """What waits for one connection, and the greenlet that works it off.

    greenlet: None before it has begun. unread_bytes: that were read while it was busy.
    """

    __slots__ = ()

    connection: AnyConnection
    events: list[Any]
    greenlet: Greenlet | None
    unread_bytes: int

    waiter: Greenlet | None = None
    """The greenlet of a connection handler that waits for a message (`HandlerJob`)."""

    @property
    def is_busy(self) -> bool:
        """True while a handler runs, or something waits for its turn."""
        return self.greenlet is not None or bool(self.events)

    @property
    def is_current(self) -> bool:
        """True in the greenlet that works it off."""
        return self.greenlet is getcurrent()

    @property
    def waits_for_peer(self) -> bool:
        """True if nothing goes on here until more has come."""
        return self.greenlet is None or self.waiter is not None

    @property
    def has_request(self) -> bool:
        """True if the peer has asked again: what is owed is the answer to that, and the handler
        that runs has given its own."""
        return any(
            not isinstance(each, Control) or isinstance(each, HttpEvent) for each in self.events
        )

    def run(self, me: Greenlet) -> None:
        """Work it off in greenlet `me`. Another greenlet that comes meanwhile leaves at once."""
        # One piece: one more call for each message makes an echo 2 % slower.
        connection = self.connection
        if self.greenlet is not None or connection.event_job is not self:
            return
        self.greenlet = me
        server = connection.server_context
        interceptor = server.message_interceptor
        handled = 0
        batch = self.events
        while True:
            if batch:
                self.events = []
                if server.holder is not None and connection.lifecycle is ESTABLISHED:
                    # What has come so far is answered here, what comes from now on by a successor.
                    server.holder.hold(connection)
                for event in batch:
                    kind = event.__class__
                    if kind is not str and kind is not bytes and isinstance(event, Control):
                        self.handle(event)
                    elif connection.lifecycle is ESTABLISHED:
                        server.requests += 1
                        callback = connection.callbacks.on_message
                        if callback is not None:
                            try:
                                value = (
                                    callback(connection, event)
                                    if interceptor is None
                                    else interceptor(callback, connection, event)
                                )
                                if value is not None and connection.protocol_machine.keeps_alive:
                                    answer(connection, callback, value)
                            except BaseException:
                                connection.handler_failed("on_message")
                if self.events:
                    batch = self.events
                    continue
            if not connection.parser_paused:
                break
            if server.timeouts.pending:  # a request that is here is under no deadline
                server.timeouts.expect(connection, "")
            machine, io = connection.protocol_machine, connection.io
            if (
                io.write_buffer is None
                and not io.eof_received
                and not server.takes_no_more
                and connection.lifecycle is ESTABLISHED
                and not machine.has_pending
            ):
                connection.parser_paused = False
                break
            handled += QUEUE_MESSAGES if batch and batch[-1] is MORE else len(batch)
            batch, event = [], None  # of two that were inflated, only one at a time is here
            if not self._has_more(handled):
                if self.greenlet is QUEUED:
                    return
                break
            batch = self.events
        connection.event_job = None
        if server.on_job_end is not None:
            server.on_job_end(connection)
        io = connection.io
        if io.pause_reasons and not connection.parser_paused:
            io.resume(PauseReason.BACKPRESSURE)

    def _has_more(self, handled: int) -> bool:
        # handled: messages in this turn of the event loop.
        connection = self.connection
        if not connection.may_parse():
            return False
        if handled >= QUEUE_MESSAGES or connection.protocol_machine.inflated_bytes >= QUEUE_BYTES:
            self._wait_for_turn()
            return False
        connection.parse()
        return bool(self.events)

    def handle(self, event: Control) -> None:
        try:
            handle(self.connection, event, self.connection.handlers)
        except BaseException:
            self.connection.handler_failed(event.name)

    def wake(self) -> None:
        """Something has come, or the connection has ended: a handler that waits is to look. A
        plain job looks by itself."""

    def callback_failed(self) -> None:
        """See `loop_errors`: this connection cannot go on."""
        self.connection.destroy()

    # ---- turns of the event loop

    def _wait_for_turn(self) -> None:
        # Other connections have their turns before it.
        connection = self.connection
        connection.protocol_machine.inflated_bytes = 0
        connection.io.pause(PauseReason.BACKPRESSURE)
        self.greenlet = QUEUED
        connection.server_context.run_queue.add(self.take_turn)

    def take_turn(self) -> None:
        connection = self.connection
        self.greenlet = None
        if connection.lifecycle is ESTABLISHED or connection.lifecycle is AWAITING_CLOSE:
            connection.io.resume(PauseReason.BACKPRESSURE)
        connection.server_context.pool.start(self)


def new_job(connection: AnyConnection, events: list[Any]) -> Job:
    """Give `connection`, which has none, a job.

    Job has no __init__: that would be one more call for each message (see `receiving.parse`).
    """
    job = connection.event_job = Job()
    job.connection = connection
    job.events = events
    job.greenlet = None
    job.unread_bytes = 0
    return job


def handle(connection: AnyConnection, event: Control, handlers: Mapping[type, Handler]) -> None:
    # Do what `event` means by `handlers`. An event whose type is not there means nothing.
    handler = handlers.get(type(event))
    if handler is None:
        handler = next((handlers[each] for each in type(event).__mro__ if each in handlers), None)
    if handler is not None:
        handler(connection, event)


def answer(connection: AnyConnection, handler: Any, value: Any) -> None:
    """Send what a handler has returned, if its protocol owes an answer; but True is what `send`
    has returned."""
    if value is True or value is False:
        return
    job = connection.event_job
    has_asked_again = job is not None and job.events and job.has_request
    if has_asked_again or not connection.protocol_machine.awaits_answer:
        text = (
            "on_message (%s) has returned %s after its answer, or after the end of the "
            "connection: it is ignored"
        )
        log.warning(text, name_of(handler), type(value).__name__)
        return
    try:
        connection.send(value)
    except TypeError as error:
        raise TypeError(
            f"on_message ({name_of(handler)}) has returned {type(value).__name__}, no answer: "
            f"{error}"
        ) from None
