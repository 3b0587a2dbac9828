"""Connection handlers: one greenlet that owns a connection for as long as it lives.

    def handler(connection):
        for message in connection:
            connection.send(message)

The handler is the connection's one job; what arrives meanwhile waits in the inbox, with the same
bounds as for a busy on_message handler, and `recv` takes it from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from gevent import GreenletExit, Timeout, get_hub
from greenlet import getcurrent, greenlet

from gworker.connection.connection import Connection
from gworker.connection.context import INBOX_MESSAGES, ServerContext
from gworker.connection.dialogue import INBOX_BYTES
from gworker.connection.events import LOST, RESUME
from gworker.connection.stream import ESTABLISHED
from gworker.connection.transport import PauseReason
from gworker.protocols.base import EOF, MORE, Control, HttpEvent, Protocol
from gworker.system.peer_address import SocketAddress

if TYPE_CHECKING:
    import _socket


class Session(Connection):
    """A connection whose Worker has a connection handler."""

    __slots__ = ("_handled", "_is_queued", "_served", "_shakes_hands", "_waiter")

    def __init__(
        self,
        service: ServerContext,
        socket: _socket.socket,
        remote: SocketAddress,
        protocol: type[Protocol],
    ) -> None:
        super().__init__(service, socket, remote, protocol)
        self._waiter: greenlet | None = None
        self._served = False
        self._shakes_hands = False
        self._handled = 0  # messages that the handler has taken in this turn of the event loop
        self._is_queued = False

    def open(self) -> None:
        """Begin: start reading, and the handler."""
        self._transport.start()
        self._service.isolate_errors(type(self)._begin)(self)
        self._service.pool.start_soon(self)

    def _begin(self) -> None:
        super()._begin()
        self._shakes_hands = self._protocol.waiting_for() == "handshake"

    @property
    def is_idle(self) -> bool:
        """True if the handler waits for a message, and nothing waits to be sent."""
        waits = self._inbox is not None or self._transport.write_buffer is not None or self._paused
        return self._waiter is not None and not waits

    def run(self, me: greenlet) -> None:
        """The handler's life first, then what came after it."""
        if self._job is not None:
            return
        if not self._served:
            self._served = True
            self._job = me
            self._serve()
            self._job = None
        super().run(me)

    def _serve(self) -> None:
        self._call("on_connect")
        self._open_handshake()
        if self._state is not ESTABLISHED:
            return
        try:
            self._service.worker.connection_handler(self)
        except BaseException:
            self._failed("the connection handler")
        self._service.isolate_errors(type(self)._end)(self)

    def _end(self) -> None:
        """The handler has returned."""
        self.close()
        if self._protocol.is_sending:
            self._put(RESUME)

    def _open_handshake(self) -> None:
        """A protocol with a handshake has it behind it when the handler begins."""
        while self._shakes_hands and self._state is ESTABLISHED and self.request is None:
            if self._inbox is None:
                self._wait()
            else:
                self._obey(self._take())

    def recv(self, timeout: float | None = None) -> Any:
        """Wait for the next message and return it; None when the peer has finished.

        An answer in pieces is sent here, too, and the time that it takes does not count. Raises
        TimeoutError after `timeout` seconds of waiting, RuntimeError outside the connection's
        handler.
        """
        if self._job is not getcurrent():
            raise RuntimeError("recv() belongs to the connection's own handler")
        return self._next_message(timeout)

    def __iter__(self) -> Iterator[Any]:
        """All messages until the peer has finished."""
        while (message := self.recv()) is not None:
            yield message

    def pipe(self, destination: Connection) -> None:
        """Forward every message to `destination`, no faster than it takes them, until one of the
        two has ended.

        The other is closed then. Raises RuntimeError outside the connection's handler, which it
        keeps waiting: for both directions let the other connection begin,
        `upstream.pipe(connection)`.
        """
        from gworker.connection.pipe import pump

        if self._job is not getcurrent():
            raise RuntimeError(
                "pipe() of a connection with a handler forwards within that handler: call it there"
            )
        pump(self, destination)

    def _next_message(self, timeout: float | None) -> Any:
        left = timeout
        while self._state is ESTABLISHED:
            if self._inbox is None:
                began = monotonic()
                if not self._wait(left):
                    raise TimeoutError(f"no message within {timeout} s")
                if left is not None:
                    left = max(0.0, left - (monotonic() - began))
                continue
            event = self._inbox[0]
            if event is EOF or event is LOST:
                return None  # left in the inbox: it is worked off when the handler has returned
            self._take()
            self._handled += 1 if event is not MORE else INBOX_MESSAGES
            if not isinstance(event, Control):
                if self._service.holder is not None:
                    self._service.holder.hold(self)
                self._service.requests += 1
                return event
            if isinstance(event, HttpEvent) and (request := self._taken(event)) is not None:
                return request
            self._obey_within(event)
        return None

    def _obey_within(self, event: Control) -> None:
        """As `_obey`; but whoever has given the handler so much time, or has killed it, is heard
        there."""
        try:
            self._control(event)
        except (Timeout, GreenletExit):
            raise
        except BaseException:
            self._failed(event.name)

    def _taken(self, event: HttpEvent) -> Any:
        """The request of `event`, if it is one that has to be attached to its connection."""
        # Connections that speak no HTTP load neither of these.
        from gworker.connection.http_exchange import take
        from gworker.protocols.http.events import RequestStarted

        return take(self, event) if isinstance(event, RequestStarted) else None

    def _take(self) -> Any:
        assert self._inbox is not None
        event = self._inbox.pop(0)
        if not self._inbox:
            self._inbox = None
        return event

    def _wait(self, seconds: float | None = None) -> bool:
        """Until there is something in the inbox, the connection has ended, or somebody wants to
        look. False: too late.

        The timer runs here alone: it must not end what `recv` does besides waiting.
        """
        if self._paused and self._may_ask() and not self._is_queued:
            if self._handled >= INBOX_MESSAGES or self._protocol.inflated_bytes >= INBOX_BYTES:
                self._queue_for_turn()
            else:
                self._pull()
            if self._inbox is not None:
                return True
        self._backlog = 0
        if not self._paused:
            self._handled = 0
            self._transport.resume(PauseReason.BACKPRESSURE)
        if self._is_queued:
            seconds = None  # there is something
        timer = None if seconds is None else Timeout.start_new(seconds)
        self._waiter = self._job
        if self._service.on_job_end is not None:
            self._service.on_job_end(self)
        try:
            get_hub().switch()
        except Timeout as expired:
            if expired is not timer:
                raise
            return False
        finally:
            self._waiter = None
            if timer is not None:
                timer.close()
        return True

    def _queue_for_turn(self) -> None:
        """As `_wait_for_turn`, within the handler."""
        self._protocol.inflated_bytes = 0
        self._is_queued = True
        self._transport.pause(PauseReason.BACKPRESSURE)
        self._service.run_queue.add(self._take_turn)

    def _take_turn(self) -> None:
        if not self._is_queued:  # the handler has returned
            super()._take_turn()
            return
        self._is_queued = False
        self._handled = 0
        if self._state is ESTABLISHED or self._awaiting:
            self._transport.resume(PauseReason.BACKPRESSURE)
        self._put(RESUME)
        if self._job is None:
            self._service.pool.start(self)
        else:
            self._resume()

    def _count_backlog(self, size: int) -> None:
        if self._paused or self._waiter is None:
            super()._count_backlog(size)

    def _waits_for_peer(self) -> bool:
        return self._job is None or self._waiter is not None

    def _wake_handler(self) -> None:
        if self._waiter is not None:
            self._service.loop.run_callback(self._resume)
        super()._wake_handler()

    def _resume(self) -> None:
        """Go on with the handler, unless a timeout was quicker."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.switch()
