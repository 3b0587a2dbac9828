"""The job of a connection that has a connection handler: one greenlet for as long as it lives.

    def handler(connection):
        for message in connection:
            connection.send(message)

What arrives waits in the job, with the same bounds as for a busy on_message handler, and `recv`
takes it from there. When the handler has returned, the job goes on like every other one.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from time import monotonic
from typing import Any

from gevent import GreenletExit, Timeout, get_hub
from greenlet import greenlet

from gworker.connection.context import QUEUE_MESSAGES
from gworker.connection.dispatcher import QUEUE_BYTES, AnyConnection, Job, handle
from gworker.connection.events import CONTINUE_PARSING, ConnectionReset
from gworker.connection.receiving import set_deadline
from gworker.connection.state import AWAITING_CLOSE, DETACHED, ESTABLISHED, PauseReason
from gworker.protocols.base import EOF, MORE, Control, HttpEvent


class HandlerJob(Job):
    """Runs `handler`, and gives it the messages. shakes_hands: its protocol has a handshake, which
    comes first."""

    __slots__ = ("_handled", "_handler", "_is_queued", "shakes_hands", "waiter")

    def __init__(self, connection: AnyConnection, handler: Callable[[Any], object]) -> None:
        self.connection = connection
        self.events = []
        self.greenlet = None
        self.unread_bytes = 0
        self._handler: Callable[[Any], object] | None = handler
        self.shakes_hands = False
        self._handled = 0  # messages that the handler has taken in this turn of the event loop
        self._is_queued = False
        self.waiter: greenlet | None = None

    def run(self, me: greenlet) -> None:
        """The handler's life first, then what came after it."""
        if self.greenlet is not None:
            return
        handler, self._handler = self._handler, None
        if handler is not None:
            self.greenlet = me
            self._serve(handler)
            self.greenlet = None
        super().run(me)

    def _serve(self, handler: Callable[[Any], object]) -> None:
        connection = self.connection
        connection.call("on_connect")
        self._open_handshake()
        if connection.lifecycle is not ESTABLISHED:
            return
        try:
            connection.server_context.intercepted("handler", handler, connection)
        except BaseException:
            connection.handler_failed("the connection handler")
        if connection.lifecycle is not DETACHED:
            connection.server_context.isolate_errors(methodcaller("close"))(connection)

    def _open_handshake(self) -> None:
        connection = self.connection
        while (
            self.shakes_hands and connection.lifecycle is ESTABLISHED and connection.request is None
        ):
            if self.events:
                self.handle(self.events.pop(0))
            else:
                self._wait(None)

    def next_message(self, timeout: float | None) -> Any:
        """Wait for a message and return it; None when the peer has finished. Raises TimeoutError
        after `timeout` seconds of waiting. In the handler's greenlet."""
        deadlines = self.connection.server_context.handler_deadlines
        if deadlines is None:
            return self._next_message(timeout)
        paused = deadlines.pause()
        try:
            return self._next_message(timeout)
        finally:
            deadlines.resume(paused)

    def _next_message(self, timeout: float | None) -> Any:
        connection = self.connection
        left = timeout
        while connection.lifecycle is ESTABLISHED:
            if not self.events:
                began = monotonic()
                if not self._wait(left):
                    raise TimeoutError(f"no message within {timeout} s")
                if left is not None:
                    left = max(0.0, left - (monotonic() - began))
                continue
            event = self.events[0]
            if event is EOF or isinstance(event, ConnectionReset):
                return None  # it stays: it is worked off when the handler has returned
            self.events.pop(0)
            self._handled += 1 if event is not MORE else QUEUE_MESSAGES
            if not isinstance(event, Control):
                server = connection.server_context
                if server.holder is not None:
                    server.holder.hold(connection)
                server.requests += 1
                if connection.observer is not None:
                    connection.observer.handling(connection, event)
                return event
            if isinstance(event, HttpEvent) and (request := self._request_of(event)) is not None:
                if connection.observer is not None:
                    connection.observer.handling(connection, request)
                return request
            self._handle_within(event)
        return None

    def _request_of(self, event: HttpEvent) -> Any:
        # what speaks no HTTP does not load it
        from gworker.connection.http_exchange import attach
        from gworker.protocols.http.streaming import RequestStarted

        return attach(self.connection, event) if isinstance(event, RequestStarted) else None

    def _handle_within(self, event: Control) -> None:
        # As `handle`; but a Timeout or GreenletExit belongs to the handler: it was thrown into
        # that.
        try:
            handle(self.connection, event, self.connection.handlers)
        except (Timeout, GreenletExit):
            raise
        except BaseException:
            self.connection.handler_failed(event.name)

    def _wait(self, seconds: float | None) -> bool:
        """Wait until there is an event, the connection has ended, or something else is to be looked
        at. False: `seconds` passed first.

        The timer runs here alone: it must not end what `recv` does besides waiting.
        """
        connection = self.connection
        server = connection.server_context
        if connection.parser_paused and not self._is_queued and connection.may_parse():
            if (
                self._handled >= QUEUE_MESSAGES
                or connection.protocol_machine.inflated_bytes >= QUEUE_BYTES
            ):
                self._queue_for_turn()
            else:
                connection.parse()
            if self.events:
                return True
        self.unread_bytes = 0
        if not connection.parser_paused:
            self._handled = 0
            connection.io.resume(PauseReason.BACKPRESSURE)
        if self._is_queued:
            seconds = None  # there is something
        timer = None if seconds is None else Timeout.start_new(seconds)
        self.waiter = self.greenlet
        if server.on_job_end is not None:
            server.on_job_end(connection)
        try:
            get_hub().switch()
        except Timeout as expired:
            if expired is not timer:
                raise
            return False
        finally:
            self.waiter = None
            if timer is not None:
                timer.close()
        return True

    def wake(self) -> None:
        if self.waiter is not None:
            self.connection.server_context.loop.run_callback(self._resume)

    def _resume(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.switch()

    def _queue_for_turn(self) -> None:
        # Go on in the next turn of the event loop, within the handler.
        self.connection.protocol_machine.inflated_bytes = 0
        self._is_queued = True
        self.connection.io.pause(PauseReason.BACKPRESSURE)
        self.connection.server_context.run_queue.add(self._turn_came)

    def _turn_came(self) -> None:
        connection = self.connection
        self._is_queued = False
        self._handled = 0
        if connection.lifecycle is ESTABLISHED or connection.lifecycle is AWAITING_CLOSE:
            connection.io.resume(PauseReason.BACKPRESSURE)
        self.events.append(CONTINUE_PARSING)
        if self.greenlet is None:
            connection.server_context.pool.start(self)
        else:
            self._resume()


def begin(connection: AnyConnection) -> None:
    # Ask the protocol what it is waiting for at first.
    set_deadline(connection)
    if isinstance(connection.event_job, HandlerJob):
        connection.event_job.shakes_hands = connection.shakes_hands
