"""The byte half of a connection: a non-blocking socket, its state, its counters, and what waits to be sent.

States go ESTABLISHED → CLOSING → CLOSED, or straight to CLOSED, and never back; but ESTABLISHED →
LEAVING, while another process is being given the socket, goes back if that does not take it. `_finish`
is the one door to CLOSED for a socket that ends here, `Moving.left` for one that lives on elsewhere. It
knows no protocol and calls no user code; what the upper half wants to hear of comes through four
methods that it overrides.
"""

from __future__ import annotations

import contextlib
import struct
from _socket import SHUT_RDWR, SO_LINGER, SOL_SOCKET
from enum import Enum
from time import time
from typing import TYPE_CHECKING, Any

from gworker.outbox import Outbox, untaken
from gworker.pace import HELD
from gworker.peer import Addresses, Credentials, SocketAddress, connected, credentials_of, local_of
from gworker.scoreboard import Column
from gworker.service import Service
from gworker.tls import TlsInfo, TlsSocket

if TYPE_CHECKING:
    import _socket

# The members of an enum cost an attribute look-up each; these are on the message path.
CONNECTIONS = Column.CONNECTIONS.value
SEND_FAILURES = Column.SEND_FAILURES.value

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""struct linger: on, for no time (socket(7))."""

READ_SIZE = 65536
LARGE_READ_SIZE = 126976
"""Bytes per recv(2), and after that was filled once: then a message of 64 KiB comes in one read, with its header. Above
128 KiB malloc(3) would map memory anew each time."""

READ, WRITE = 1, 2
"""libev's event bits."""


class State(Enum):
    """What `connection.status` shows. CONNECTING: those that this process dials, only."""

    CONNECTING = "connecting"
    ESTABLISHED = "established"
    LEAVING = "leaving"
    CLOSING = "closing"
    CLOSED = "closed"


CONNECTING, ESTABLISHED, LEAVING, CLOSING, CLOSED = State

THROTTLED = 1
BY_USER = 2
BY_OUTPUT = 4
BY_DEPARTURE = 8
"""Why reading is held back: bits of `_held`."""


class Stream(Addresses):
    """A socket that is read by a watcher and written at once, with the rest queued."""

    __slots__ = (
        "__weakref__",
        "_awaiting",
        "_held",
        "_outbox",
        "_peer_done",
        "_read_size",
        "_remote",
        "_service",
        "_socket",
        "_state",
        "_watcher",
        "accepted_at",
        "bytes_read",
        "bytes_written",
        "id",
        "max_send_buffer_size",
    )

    def __init__(self, service: Service, socket: _socket.socket, remote: SocketAddress, id: int | None = None) -> None:
        self.id = service.next_id() if id is None else id
        self.accepted_at = int(time())
        self.bytes_read = 0
        self.bytes_written = 0
        self.max_send_buffer_size = 0
        self._service = service
        self._socket = socket
        self._remote = remote
        self._state = ESTABLISHED
        self._outbox: Outbox | None = None
        self._held = 0
        self._peer_done = False
        self._read_size = READ_SIZE
        self._awaiting = False
        self._watcher: Any = self._make_watcher()
        self._enter_books()

    def _make_watcher(self) -> Any:
        return self._service.loop.io(self._socket.fileno(), READ)

    def _enter_books(self) -> None:
        service = self._service
        service.connections[self.id] = self
        service.row[CONNECTIONS] += 1
        if service.per_address is not None:
            service.per_address.add(self._remote)

    def _leave_books(self) -> None:
        service = self._service
        del service.connections[self.id]
        service.row[CONNECTIONS] -= 1
        if service.per_address is not None:
            service.per_address.remove(self._remote)

    # ---- for the upper half

    def _on_readable(self) -> None:
        """Bytes, the end or an error wait in the socket. In the hub."""
        raise NotImplementedError

    def _became_full(self) -> None:
        """What is queued has reached `max_send_buffer_size`."""

    def _became_empty(self) -> None:
        """All is sent, after it was full."""

    def _was_refused(self, message: str) -> None:
        """Bytes could not be sent."""

    def _is_closed(self) -> None:
        """The state has become CLOSED."""

    # ---- what users see

    def _local(self) -> SocketAddress:
        return None if self._state is CLOSED else local_of(self._socket)

    @property
    def transport(self) -> str:
        """`tcp`, `unix`, or `ssl` for TLS on either."""
        if isinstance(self._socket, TlsSocket):
            return "ssl"
        return "tcp" if isinstance(connected(self._remote), tuple) else "unix"

    @property
    def peer_credentials(self) -> Credentials | None:
        """The process at the other end of a unix socket: (pid, uid, gid). None for other sockets, and once closed."""
        return credentials_of(self._socket)

    @property
    def tls(self) -> TlsInfo | None:
        """What TLS has agreed with the peer; None for a connection without."""
        socket = self._socket
        return socket.info if isinstance(socket, TlsSocket) else None

    @property
    def status(self) -> str:
        """`established`, `closing` or `closed`."""
        return self._state.value

    @property
    def send_queue(self) -> int:
        """Bytes that wait to be sent."""
        return self._outbox.size if self._outbox is not None else 0

    @property
    def taken(self) -> int | None:
        """For `pace`: what the peer has taken so far; None: nothing waits for it."""
        if self._outbox is None:
            return None
        return HELD if self._state is LEAVING else self.bytes_written - untaken(self._socket)

    def pause_recv(self) -> None:
        """Stop reading; the kernel then holds the peer back."""
        self._hold(BY_USER)

    def resume_recv(self) -> None:
        """Go on reading."""
        self._release(BY_USER)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until everything is sent. False: `timeout` seconds passed, or the connection is gone."""
        outbox = self._outbox
        if outbox is not None and not outbox.wait(timeout):
            return False
        return self._state is not CLOSED

    def close_timed_out(self) -> None:
        """It has been closing for `close_timeout`: who has taken something meanwhile may go on."""
        outbox = self._outbox
        if outbox is not None and (taken := self.taken or 0) > outbox.seen:
            outbox.seen = taken
            self._service.closing.set(self, self._service.limits.close_timeout)
        else:
            self.cut()

    def cut(self) -> None:
        """The time to close politely is up. A reset tells the peer that what it has is not all."""
        if self._outbox is not None:
            self._socket.setsockopt(SOL_SOCKET, SO_LINGER, RESET_ON_CLOSE)
        self._finish(abort=True)

    def destroy(self) -> None:
        """Close now and drop what is queued."""
        self._finish(abort=True)

    # ---- reading

    def _hold(self, why: int) -> None:
        if self._state is not CLOSED:
            self._held |= why
            self._watcher.stop()

    def _release(self, why: int) -> None:
        if self._held:
            self._held &= ~why
            self._read_on()

    def _read_on(self) -> None:
        if not self._held and not self._peer_done and self._state is not CLOSED and self._state is not LEAVING:
            self._watcher.start(self._on_readable)

    def _read_when_writable(self) -> None:
        """TLS cannot read on before it has answered the peer."""
        self._hold(BY_OUTPUT)
        if self._outbox is None:
            self._outbox = self._make_outbox()  # empty: its watcher wakes us, and it goes

    # ---- writing

    def _write(self, data: bytes) -> bool:
        """Send `data` or queue what the socket does not take. False: the peer is gone."""
        outbox = self._outbox
        if outbox is None:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return self._is_gone()
            self.bytes_written += sent
            self._service.bytes_written += sent
            if sent == len(data):
                return True
            return self._queue(memoryview(data)[sent:] if type(data) is bytes else bytes(data[sent:]))
        return self._queue(data)

    def _write_both(self, prefix: bytes, data: bytes) -> bool:
        """`_write` two pieces as one, without a copy of the second."""
        outbox, socket = self._outbox, self._socket
        if outbox is None and isinstance(socket, TlsSocket):
            return self._write(prefix + data)
        sent = 0
        if outbox is None:
            try:
                sent = socket.sendmsg((prefix, data))
            except BlockingIOError:
                pass
            except OSError:
                return self._is_gone()
            self.bytes_written += sent
            self._service.bytes_written += sent
            if sent == len(prefix) + len(data):
                return True
        if sent < len(prefix):
            if outbox is None:
                outbox = self._outbox = self._make_outbox()
            outbox.append(prefix[sent:])
        return self._queue(memoryview(data)[max(0, sent - len(prefix)) :])

    def _is_gone(self) -> bool:
        """The peer takes nothing any more."""
        self._refused("client closed")
        self._finish(abort=True)
        return False

    def _queue(self, data: bytes | memoryview) -> bool:
        outbox = self._outbox
        if outbox is None:
            outbox = self._outbox = self._make_outbox()
        # What stays queued must not change under us: a bytearray is its owner's.
        outbox.append(data if isinstance(data, bytes | memoryview) else bytes(data))
        if outbox.size >= self.max_send_buffer_size and not outbox.full:
            outbox.full = True
            self._became_full()
        return True

    def _make_outbox(self) -> Outbox:
        self._service.sending.watch(self)
        return Outbox(self._service.loop.io(self._socket.fileno(), WRITE), self._on_writable)

    def _refused(self, message: str) -> bool:
        self._service.row[SEND_FAILURES] += 1
        self._was_refused(message)
        return False

    def _on_writable(self) -> None:
        outbox = self._outbox
        assert outbox is not None
        try:
            sent = outbox.flush(self._socket)
        except OSError:
            self._finish(abort=True)
            return
        self.bytes_written += sent
        self._service.bytes_written += sent
        if outbox.size:
            if sent and self._state is CLOSING:  # a slow reader is no stuck one
                self._service.closing.extend(self, self._service.limits.close_timeout)
            return
        self._drop_outbox()
        if self._state is CLOSING:
            self._finish_if_flushed()
            return
        self._release(BY_OUTPUT)
        if outbox.full:
            self._became_empty()

    def _drop_outbox(self) -> None:
        outbox, self._outbox = self._outbox, None
        if outbox is not None:
            self._service.sending.forget(self)
            outbox.close()

    # ---- ending

    def _close(self, farewell: bytes, awaiting: bool = False) -> None:
        """Send `farewell` and what is queued, hear the peer's if `awaiting`, then finish; all in `close_timeout`."""
        self._state = CLOSING
        self._awaiting = awaiting and not self._peer_done
        if farewell and not self._write(farewell):
            return
        if self._awaiting:
            self._held = 0
            self._read_on()
        else:
            self._hold(THROTTLED)
        if self._outbox is not None:
            self._outbox.seen = self.taken or 0
        self._service.closing.set(self, self._service.limits.close_timeout)
        self._finish_if_flushed()

    def _finish_if_flushed(self) -> None:
        if self._outbox is None and not self._awaiting:
            self._finish(abort=False)

    def _finish(self, abort: bool) -> None:
        if self._state is CLOSED:
            return
        if self._state is LEAVING:  # whoever has it then hears of it as the end of the stream
            with contextlib.suppress(OSError):  # the peer was quicker
                self._socket.shutdown(SHUT_RDWR)
            return
        self._retire_from_books()
        service = self._service
        if abort or self._peer_done:
            self._socket.close()
        else:
            service.lingerer.close(self._socket)
        self._is_closed()
        for callback in service.on_closed:
            callback()

    def _retire_from_books(self) -> None:
        self._state = CLOSED
        service = self._service
        self._watcher.stop()
        self._watcher.close()
        self._drop_outbox()
        service.deadlines.clear(self)
        service.closing.clear(self)
        service.bodies.forget(self)
        self._leave_books()
