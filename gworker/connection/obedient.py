"""What each thing that waits in the inbox of a connection means: which callback it calls, or how it
ends that.

The loop that works the inbox off is `Dialogue.run`: messages it hands over itself, and the rest
comes here (`_obey`).

What a callback, or a user's protocol, lets escape is logged, counted, and costs this connection
only (`_failed`).
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from gworker.connection.context import ServerContext
from gworker.connection.events import LOST, Invoke, Refuse
from gworker.connection.stream import CLOSED, CLOSING, ESTABLISHED, Stream
from gworker.connection.unanswered import name_of
from gworker.errors import ErrorCode, RequestError
from gworker.ipc.scoreboard import Column
from gworker.protocols.base import EOF, INTERNAL_ERROR, Control, Handshake, HttpEvent, Protocol
from gworker.system import fork_guard
from gworker.system.peer_address import SocketAddress

if TYPE_CHECKING:
    import _socket

    from gworker.app.callbacks import Callbacks

log = logging.getLogger("gworker")

MOST_TOLD = 128
"""So many things may wait for the user's callbacks; that something could not be sent is told often
enough then."""

EXCEPTIONS = Column.EXCEPTIONS.value


class Obedient(Stream):
    """A stream with a protocol, callbacks, and an inbox of what it has to do, of which each has its
    turn."""

    __slots__ = ("_asking", "_callbacks", "_inbox", "_job", "_protocol", "headers", "request")

    def __init__(
        self,
        service: ServerContext,
        socket: _socket.socket,
        remote: SocketAddress,
        protocol: Protocol,
        id: int | None = None,
    ) -> None:
        super().__init__(service, socket, remote, id)
        self.request: Any = None
        self.headers: Any = None
        self._protocol = protocol
        self._callbacks: Callbacks = service.worker.callbacks
        self._inbox: list[Any] | None = None
        self._job: greenlet | None = None
        self._asking = False
        self._configure(
            protocol
        )  # which may be a user's and raise: nobody knows of this connection yet

    def _configure(self, protocol: Protocol) -> None:
        self._service.configure_protocol(protocol, self._transport.remote, self._transport.is_tls)

    def observe(self) -> None:
        """Write to the access log, if there is one. Before `open`."""
        self._observer = self._service.observer(self._protocol)

    def send(self, data: Any, raw: bool = False) -> bool:
        """Send one message."""
        raise NotImplementedError

    def close(self, data: Any = None, code: int = 1000, reason: str = "") -> None:
        """Send `data`, if any, say goodbye with `code` and `reason`, and close."""
        raise NotImplementedError

    def run(self, me: greenlet) -> None:
        """Work off the inbox in greenlet `me`."""
        raise NotImplementedError

    def _write_output(self) -> None:
        """Send what the protocol owes by itself."""
        raise NotImplementedError

    def _exchange(self, event: HttpEvent) -> None:
        """Go on with what of HTTP is more than a message."""
        raise NotImplementedError

    def use_callbacks(self, callbacks: Callbacks) -> None:
        """Answer to the callbacks of another Worker than that of this process. Before `open`."""
        self._callbacks = callbacks.copy()

    def set_callback(self, name: str, function: Any) -> None:
        """Give this connection a callback of its own."""
        if self._callbacks is self._service.worker.callbacks:
            self._callbacks = self._callbacks.copy()
        setattr(self._callbacks, name, function)

    def _put(self, event: Any) -> None:
        if self._inbox is None:
            self._inbox = [event]
        else:
            self._inbox.append(event)

    def _deliver(self, event: Any) -> None:
        """Put `event` into the inbox and see to it that it is worked off. From any greenlet."""
        self._put(event)
        if self._job is None:
            self._service.pool.start_soon(self)
        else:
            self._wake_handler()

    def _wake_handler(self) -> None:
        """The inbox of a connection whose job is running has got something: a job looks by
        itself."""
        try:
            self._protocol.notify_waiter()
        except BaseException:
            self._protocol_failed()

    def _protocol_failed(self) -> None:
        """A user's protocol let an exception escape: as with a callback, it costs this connection
        only, in its turn."""
        fork_guard.end(sys.exception())
        self._service.row[EXCEPTIONS] += 1
        log.exception("%r: exception in its protocol", self)
        if self._state is not CLOSED:
            self._put(LOST)

    def _check_payload(self, payload: Any) -> None:
        if not isinstance(payload, bytes | bytearray | memoryview):
            name = type(self._protocol).__qualname__
            raise TypeError(f"{name}.encode() must return bytes, not {type(payload).__name__}")

    def _obey(self, event: Control) -> None:
        try:
            self._control(event)
        except BaseException:
            self._failed(event.name)

    def _control(self, event: Control) -> None:
        if isinstance(event, Invoke):
            self._call(event.name, *event.arguments)
        elif event is EOF:
            self._peer_finished()
        elif event is LOST:
            self.destroy()
        elif isinstance(event, Handshake):
            self._handshake(event)
        elif isinstance(event, HttpEvent):
            self._exchange(event)
        elif isinstance(event, Refuse):
            if self._state is ESTABLISHED:
                log.info("%r: %s", self, event.error)
                self._close(event.error.reply)
            else:  # whoever breaks the rules instead of saying goodbye has no other to say
                self._peer_finished()

    def _peer_finished(self) -> None:
        if self._state is ESTABLISHED:
            self._close(self._protocol.close())
        elif self._state is CLOSING:
            self._awaiting = False
            self._finish_if_flushed()

    def _handshake(self, event: Handshake) -> None:
        if self._state is not ESTABLISHED:
            return
        self.request = event.request
        self._asking = True
        self._call("on_websocket_connect", event.request)
        if self._state is ESTABLISHED:
            self._protocol.accept_handshake(self.headers or ())
            self._asking = False
            self.headers = None
            self._write_output()

    def _call(self, name: str, *arguments: Any) -> None:
        callback = getattr(self._callbacks, name)
        if callback is not None:
            try:
                callback(self, *arguments)
            except BaseException:
                self._failed(name)

    def _answer(self, handler: Any, value: Any) -> None:
        """What a handler returns is its answer, if its protocol owes one; but True is what `send`
        has returned."""
        if value is True or value is False:
            return
        kind = type(value).__name__
        if not self._protocol.awaits_answer or self._has_asked_again():
            text = (
                "on_message (%s) has returned %s after its answer, or after the end of the "
                "connection: it is ignored"
            )
            log.warning(text, name_of(handler), kind)
            return
        try:
            self.send(value)
        except TypeError as error:
            raise TypeError(
                f"on_message ({name_of(handler)}) has returned {kind}, no answer: {error}"
            ) from None

    def _has_asked_again(self) -> bool:
        """The next request waits: that of the handler was answered, and what is owed is the answer
        to the next one."""
        return any(
            not isinstance(each, Control) or isinstance(each, HttpEvent)
            for each in self._inbox or ()
        )

    def _failed(self, name: str) -> None:
        """A callback or the protocol let an exception escape: it costs this connection and nothing
        else."""
        error = sys.exception()
        fork_guard.end(error)
        try:
            if (
                isinstance(error, RequestError)
                and not self._has_asked_again()
                and self._has_refused(error)
            ):
                return
            self._service.row[EXCEPTIONS] += 1
            log.exception("%r: exception in %s", self, name)
            self.close(code=INTERNAL_ERROR)
        except Exception as failure:
            log.error("%r: cannot be closed politely: %r", self, failure)
            self._finish(abort=True)

    def _has_refused(self, error: RequestError) -> bool:
        """The peer's fault, not the handler's, if the protocol has an answer to that."""
        reply: bytes | None = None
        if self._state is ESTABLISHED and (reply := self._protocol.refuse(error)) is None:
            return False
        log.info("%r: %s", self, error)
        if reply is not None:
            self._close(reply)
        return True

    def _emit(self, name: str, *arguments: Any) -> None:
        """Call a callback because of what some greenlet just did: at once if it is ours, else in
        its turn."""
        if getattr(self._callbacks, name) is None:
            return
        if self._job is getcurrent():
            self._call(name, *arguments)
        elif name != "on_error" or self._inbox is None or len(self._inbox) < MOST_TOLD:
            self._deliver(Invoke(name, *arguments))

    # A peer may be full and empty again over and over while a handler runs: what is told of that is
    # bounded, too.

    def _became_full(self) -> None:
        if self._last_told() != "on_buffer_full":
            self._emit("on_buffer_full")

    def _became_empty(self) -> None:
        last = self._last_told()
        if last == "on_buffer_full" and self._inbox is not None:
            self._inbox.pop()  # it is not full any more
        elif last != "on_buffer_drain":
            self._emit("on_buffer_drain")

    def _last_told(self) -> str:
        """The callback that waits last in an inbox which is full of such; "" as long as it is
        not."""
        inbox = self._inbox
        if inbox is None or len(inbox) < MOST_TOLD:
            return ""
        return inbox[-1].name if isinstance(inbox[-1], Invoke) else ""

    def _was_refused(self, message: str) -> None:
        self._emit("on_error", ErrorCode.SEND_FAIL, message)

    def let_go(self) -> None:
        self._inbox = None
        super().let_go()

    def _is_closed(self) -> None:
        self._wake_handler()
        if self._callbacks.on_close is not None:
            self._put(Invoke("on_close"))
            if self._job is None:
                self._service.pool.start_soon(self)
