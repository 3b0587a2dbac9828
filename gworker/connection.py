"""One accepted connection: the message half on top of its Stream.

An idle connection is this object and one started watcher; it holds no greenlet. `_on_readable` runs
in the hub: it reads, lets the protocol find messages, and puts them into the inbox. The first of
them takes a greenlet from the pool, which runs the user's callbacks one after the other until the
inbox is empty (`run`). So the callbacks of one connection never overlap and keep the order of
arrival, and while a handler blocks, its connection goes on reading into the inbox up to a bound.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from greenlet import getcurrent, greenlet

from gworker.errors import ErrorCode, ProtocolError
from gworker.peer import SocketAddress
from gworker.protocols.base import EOF, NEED_DATA, PAUSED, Control, Handshake, Protocol, Switch
from gworker.scoreboard import Column
from gworker.service import Service
from gworker.stream import BY_OUTPUT, CLOSING, ESTABLISHED, THROTTLED, Stream

if TYPE_CHECKING:
    import _socket

    from gworker.worker import Callbacks, Worker

log = logging.getLogger("gworker")

READ_SIZE = 65536
"""Bytes per recv(2)."""

INBOX_MESSAGES = 64
INBOX_BYTES = 262144
"""What may wait for a busy handler before reading stops."""

SERVER_ERROR = 1011
"""The close code for a fault of ours (RFC 6455, 7.4.1)."""

EXCEPTIONS = Column.EXCEPTIONS.value


class Invoke(Control):
    """Call one of the user's callbacks in its turn."""

    __slots__ = ("arguments",)

    def __init__(self, name: str, *arguments: Any) -> None:
        super().__init__(name)
        self.arguments = arguments


class Refuse(Control):
    """The peer broke the protocol: give it the error's reply and close."""

    __slots__ = ("error",)

    def __init__(self, error: ProtocolError) -> None:
        super().__init__("REFUSE")
        self.error = error


LOST = Control("LOST")
"""The connection was reset: nothing more can be sent."""

RESUME = Control("RESUME")
"""An answer was sent: ask the protocol for what it kept back."""


def _callback(name: str) -> property:
    def read(self: Connection) -> Any:
        return getattr(self._callbacks, name)

    def write(self: Connection, function: Any) -> None:
        if self._callbacks is self._service.worker.callbacks:
            self._callbacks = self._callbacks.copy()
        setattr(self._callbacks, name, function)

    return property(read, write, doc=f"`{name}` of this connection; setting it leaves the Worker's alone.")


class Connection(Stream):
    """One accepted connection.

    id: unique in its process. bytes_read, bytes_written: since it was accepted. request: the
    handshake's Request, for WebSocket. headers: in on_websocket_connect, (name, value) pairs or a
    mapping to add to the 101. max_send_buffer_size: bytes that may wait to be sent before `send`
    refuses more.
    """

    __slots__ = (
        "_asking",
        "_backlog",
        "_callbacks",
        "_context",
        "_inbox",
        "_job",
        "_paused",
        "_protocol",
        "headers",
        "idle_mark",
        "request",
    )

    default_max_send_buffer_size: ClassVar[int] = 1024 * 1024
    default_max_package_size: ClassVar[int] = 10 * 1024 * 1024

    on_connect = _callback("on_connect")
    on_websocket_connect = _callback("on_websocket_connect")
    on_message = _callback("on_message")
    on_close = _callback("on_close")
    on_error = _callback("on_error")
    on_buffer_full = _callback("on_buffer_full")
    on_buffer_drain = _callback("on_buffer_drain")

    def __init__(
        self, service: Service, socket: _socket.socket, remote: SocketAddress, protocol: type[Protocol]
    ) -> None:
        super().__init__(service, socket, remote)
        limits = service.limits
        self.max_send_buffer_size = limits.max_send_buffer_size or self.default_max_send_buffer_size
        self.request: Any = None
        self.headers: Any = None
        self.idle_mark: tuple[int, float] | None = None
        self._protocol = protocol(limits.max_package_size or self.default_max_package_size)
        self._callbacks: Callbacks = service.worker.callbacks
        self._context: SimpleNamespace | None = None
        self._inbox: list[Any] | None = None
        self._job: greenlet | None = None
        self._backlog = 0
        self._paused = False
        self._asking = False

    def open(self) -> None:
        """Begin: call on_connect, start reading. Once, from the hub."""
        self._watcher.start(self._on_readable)
        self._set_deadline()
        if self._callbacks.on_connect is not None:
            self._deliver(Invoke("on_connect"))

    # ---- what users see

    def __repr__(self) -> str:
        return f"<Connection {self.id} {self.protocol} {self.remote_address or 'unix'} {self.status}>"

    @property
    def worker(self) -> Worker:
        """The Worker that it belongs to."""
        return self._service.worker

    @property
    def protocol(self) -> str:
        """The name of its protocol."""
        return self._protocol.name

    @property
    def context(self) -> SimpleNamespace:
        """A namespace for the application."""
        if self._context is None:
            self._context = SimpleNamespace()
        return self._context

    @property
    def max_package_size(self) -> int:
        """The largest message in bytes that the peer may send."""
        return self._protocol.max_package_size

    @max_package_size.setter
    def max_package_size(self, size: int) -> None:
        self._protocol.max_package_size = size

    @property
    def recv_queue(self) -> int:
        """Bytes that were read while the handler was busy, and wait for it."""
        return self._backlog

    @property
    def is_idle(self) -> bool:
        """True if no handler runs and nothing waits: neither a message nor bytes to send."""
        return self._job is None and self._inbox is None and self._outbox is None and not self._paused

    # ---- receiving: in the hub

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self._peer_is_done()
            self._deliver(LOST)
            return
        size = len(data)
        self.bytes_read += size
        self._service.bytes_read += size
        if not size:
            self._peer_is_done()
        elif self._job is not None or self._paused:
            self._count_backlog(size)
        self._pull(data)
        if self._inbox is not None:
            if self._job is None:
                self._service.pool.start(self)
            else:
                self._wake_handler()

    def _peer_is_done(self) -> None:
        self._peer_done = True
        self._watcher.stop()

    def _count_backlog(self, size: int) -> None:
        """`size` bytes were read while the handler is busy: above a bound, stop reading."""
        self._backlog += size
        if self._paused or self._backlog >= min(INBOX_BYTES, self._protocol.max_package_size):
            self._hold(THROTTLED)

    def _pull(self, data: bytes | None = None) -> None:
        """Hand `data` to the protocol, and move what it has ready into the inbox."""
        protocol = self._protocol
        inbox = self._inbox
        try:
            if data is not None:
                protocol.receive_data(data)
            if self._paused:
                if not self._has_room():
                    return
                self._paused = False
            event = protocol.next_event()
            if event is NEED_DATA:
                self._set_deadline()
            while event is not NEED_DATA:
                if event is PAUSED:
                    self._paused = True
                    break
                if event.__class__ is Switch:
                    self._protocol = protocol = event.protocol
                    protocol.receive_data(event.leftover)
                elif inbox is None:
                    inbox = self._inbox = [event]
                else:
                    inbox.append(event)
                    if len(inbox) >= INBOX_MESSAGES:
                        self._paused = True
                        break
                if event is EOF:
                    break
                event = protocol.next_event()
        except ProtocolError as error:
            self._put(Refuse(error))
        except Exception:  # a user's protocol: as with a callback, it costs this connection only
            self._service.row[EXCEPTIONS] += 1
            log.exception("%r: exception in its protocol", self)
            self._put(LOST)
        if protocol.has_output:
            self._write_output()

    def _write_output(self) -> None:
        """Send what the protocol owes by itself. A peer that does not take it is not read any further."""
        self._write(self._protocol.data_to_send())
        if self._outbox is not None and self._outbox.size >= self.max_send_buffer_size:
            self._hold(BY_OUTPUT)

    def _set_deadline(self) -> None:
        deadlines, limits = self._service.deadlines, self._service.limits
        waiting = self._protocol.waiting_for()
        if not waiting:
            if deadlines.due:
                deadlines.clear(self)
        elif waiting == "handshake":
            deadlines.set(self, limits.handshake_timeout)
        elif waiting == "header":
            deadlines.set(self, limits.header_timeout)
        else:
            deadlines.extend(self, limits.header_timeout)

    def deadline_passed(self) -> None:
        """The peer did not finish its handshake, header or body in time: tell it, and close."""
        if self._state is ESTABLISHED and self._protocol.waiting_for():
            self._close(self._protocol.timed_out())

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
        """The inbox of a connection whose job is running has got something: a job looks by itself."""

    # ---- the user's callbacks: in a pooled greenlet

    def run(self, me: greenlet) -> None:
        """Work off the inbox. One greenlet at a time: a second one leaves at once."""
        if self._job is not None:
            return
        self._job = me
        while (batch := self._inbox) is not None:
            self._inbox = None
            for event in batch:
                if isinstance(event, Control):
                    self._obey(event)
                elif self._state is ESTABLISHED:
                    self._service.requests += 1
                    callback = self._callbacks.on_message
                    if callback is not None:
                        try:
                            callback(self, event)
                        except BaseException:
                            self._failed("on_message")
            if self._paused and self._inbox is None and self._state is ESTABLISHED and self._has_room():
                if self._service.deadlines.due:
                    self._service.deadlines.clear(self)
                self._pull()
        self._job = None
        self._backlog = 0
        if self._held and not self._paused:
            self._release(THROTTLED)

    def _has_room(self) -> bool:
        """No further request is read while the answers to those before it fill the send buffer."""
        outbox = self._outbox
        return outbox is None or outbox.size < self.max_send_buffer_size

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
        elif isinstance(event, Refuse) and self._state is ESTABLISHED:
            log.info("%r: %s", self, event.error)
            self._close(event.error.reply)

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

    def _failed(self, name: str) -> None:
        """A callback let an exception escape: it costs this connection and nothing else."""
        self._service.row[EXCEPTIONS] += 1
        log.exception("%r: exception in %s", self, name)
        self.close(code=SERVER_ERROR)

    def _emit(self, name: str, *arguments: Any) -> None:
        """Call a callback because of what some greenlet just did: at once if it is ours, else in its turn."""
        if getattr(self._callbacks, name) is None:
            return
        if self._job is getcurrent():
            self._call(name, *arguments)
        else:
            self._deliver(Invoke(name, *arguments))

    def _became_full(self) -> None:
        self._emit("on_buffer_full")

    def _became_empty(self) -> None:
        self._emit("on_buffer_drain")
        if self._paused and self._job is None:
            self._deliver(RESUME)

    def _was_refused(self, message: str) -> None:
        self._emit("on_error", ErrorCode.SEND_FAIL, message)

    def _is_closed(self) -> None:
        if self._callbacks.on_close is not None:
            self._deliver(Invoke("on_close"))

    # ---- sending: in any greenlet

    def send(self, data: Any, raw: bool = False) -> bool:
        """Send one message; with `raw`, bytes past the protocol. Never blocks.

        True: written or queued. False: refused, and on_error was told: the connection is gone, or
        its send buffer is full. Raises TypeError or ValueError for what the protocol cannot carry.
        """
        if self._state is not ESTABLISHED:
            return self._refused("client closed")
        outbox = self._outbox
        if outbox is not None and outbox.size >= self.max_send_buffer_size:
            return self._refused("send buffer full and drop package")
        payload = bytes(data) if raw else self._protocol.encode(data)
        taken = self._write(payload)
        if self._paused and self._job is None:
            self._deliver(RESUME)
        return taken

    def close(self, data: Any = None, code: int = 1000, reason: str = "") -> None:
        """Send `data`, if any, and what is queued, then close. No message is delivered any more.

        code, reason: for protocols that say goodbye (RFC 6455, 7.4). Before a handshake is answered
        it is refused, with `data` as the reply. A peer that takes too long is cut.
        """
        if self._state is not ESTABLISHED:
            return
        protocol = self._protocol
        if self._asking:
            self._asking = False
            if data is not None:
                protocol.refuse_handshake(data)
            self._close(protocol.data_to_send() or protocol.close(code))
            return
        if data is not None:
            self.send(data)
        farewell = protocol.close(code, reason)
        if self._state is ESTABLISHED:
            self._close(farewell, awaiting=protocol.says_goodbye and farewell != b"")

    def retire(self, code: int, patient: bool) -> None:
        """The process is retiring: end as soon as nothing is cut off by it.

        patient: a peer from which nothing has come yet is still given time to ask. code: the close
        code for protocols that have one.
        """
        if self._state is not ESTABLISHED:
            return
        self._protocol.closing = True
        if not self._peer_done and not self._held:
            self._on_readable()  # what has arrived but was not read yet must not be lost
        if self._state is ESTABLISHED and self.is_idle and not (patient and self._may_still_ask()):
            self.close(code=code)

    def _may_still_ask(self) -> bool:
        return self.bytes_read == 0 or self._protocol.waiting_for() != ""

    def pipe(self, destination: Connection) -> None:
        """Forward every message to `destination`, no faster than it takes them; one end closes the other."""
        from gworker.pipe import pipe

        pipe(self, destination)
