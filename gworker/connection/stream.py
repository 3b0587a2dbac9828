"""The byte half of a connection: a non-blocking socket, its state, its counters, and what waits to
be sent.

States go ESTABLISHED → CLOSING → CLOSED, or straight to CLOSED, and never back; but ESTABLISHED →
LEAVING, while another process is being given the socket, goes back if that does not take it.
`_finish` is the one door to CLOSED for a socket that ends here, `Moving.left` for one that lives on
elsewhere. It knows no protocol and calls no user code; what the upper half wants to hear of comes
through methods that it overrides: `_on_readable`, `_became_empty` and `_is_closed` here, and those
of `Sender`.
"""

from __future__ import annotations

import contextlib
from _socket import SHUT_RDWR, SO_LINGER, SOL_SOCKET
from enum import Enum
from time import time
from typing import TYPE_CHECKING, Any

from gworker.connection.context import ServerContext
from gworker.connection.min_rate import HELD
from gworker.connection.sender import Sender
from gworker.ipc.scoreboard import Column
from gworker.system.peer_address import (
    Credentials,
    SocketAddress,
    connected,
    credentials_of,
    local_of,
)
from gworker.system.socket_options import RESET, untaken
from gworker.tls.socket import TlsInfo, TlsSocket

if TYPE_CHECKING:
    import _socket

# The members of an enum cost an attribute look-up each; these are on the message path.
CONNECTIONS = Column.CONNECTIONS.value

READ_SIZE = 65536
LARGE_READ_SIZE = 126976
"""Bytes per recv(2), and after that was filled once: then a message of 64 KiB comes in one read,
with its header. Above 128 KiB malloc(3) would map memory anew each time."""

READ = 1
"""libev's event bit."""


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


def close_copy(socket: _socket.socket) -> None:
    """Close the descriptor of a connection that goes on in another process, without a word to
    the peer."""
    if isinstance(socket, TlsSocket):
        socket.let_go()
    else:
        socket.close()


class Stream(Sender):
    """A socket that is read by a watcher and written at once, with the rest queued."""

    __slots__ = (
        "__weakref__",
        "_awaiting",
        "_held",
        "_peer_done",
        "_read_size",
        "_remote",
        "_state",
        "_watcher",
        "accepted_at",
        "bytes_read",
        "id",
    )

    def __init__(
        self,
        service: ServerContext,
        socket: _socket.socket,
        remote: SocketAddress,
        id: int | None = None,
    ) -> None:
        super().__init__(service, socket)
        self.id = service.next_id() if id is None else id
        self.accepted_at = int(time())
        self.bytes_read = 0
        self._remote = remote
        self._state = ESTABLISHED
        self._held = 0
        self._peer_done = False
        self._read_size = READ_SIZE
        self._awaiting = False
        self._watcher: Any = self._make_watcher()

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

    def _became_empty(self) -> None:
        """All is sent, after it was full."""

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
        """The process at the other end of a unix socket: (pid, uid, gid). None for other sockets,
        and once closed."""
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
    def peer_closed(self) -> bool:
        """True once the peer has finished sending. It may still read: an answer that is due is sent
        to it."""
        return self._peer_done

    @property
    def taken(self) -> int | None:
        """For `pace`: what the peer has taken so far; None: nothing waits for it, neither here nor
        in the kernel."""
        if self._state is LEAVING:
            return HELD
        left = untaken(self._socket)
        return self.bytes_written - left if left or self._outbox is not None else None

    @property
    def unacknowledged(self) -> int:
        """Bytes that the peer has not acknowledged: those that wait here, and those that the kernel
        holds for it."""
        return self.send_queue + untaken(self._socket)

    def pause_recv(self) -> None:
        """Stop reading; the kernel then holds the peer back."""
        self._hold(BY_USER)

    def resume_recv(self) -> None:
        """Go on reading."""
        self._release(BY_USER)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until everything is sent. False: `timeout` seconds passed, or the connection is
        gone."""
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
            self.reset()
        else:  # the peer may go on with what the kernel holds for it
            self._finish(abort=True)

    def reset(self) -> None:
        """Close now, with a reset: what waits for the peer is dropped, also in the kernel."""
        self._socket.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        self._finish(abort=True)

    def destroy(self) -> None:
        """Close now and drop what is queued."""
        self._finish(abort=True)

    def callback_failed(self) -> None:
        """See `loop_errors`: this connection cannot go on."""
        self.destroy()

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
        if (
            not self._held
            and not self._peer_done
            and self._state is not CLOSED
            and self._state is not LEAVING
        ):
            self._watcher.start(self._on_readable)

    def _read_when_writable(self) -> None:
        """TLS cannot read on before it has answered the peer."""
        self._hold(BY_OUTPUT)
        if self._outbox is None:
            self._outbox = self._make_outbox()  # empty: its watcher wakes us, and it goes

    # ---- what becomes of what is queued

    def _sent_some(self) -> None:
        if self._state is CLOSING:  # a slow reader is no stuck one
            self._service.closing.extend(self, self._service.limits.close_timeout)

    def _is_flushed(self, was_full: bool) -> None:
        if self._state is CLOSING:
            self._finish_if_flushed()
            return
        self._release(BY_OUTPUT)
        if was_full:
            self._became_empty()

    # ---- ending

    def _close(self, farewell: bytes, awaiting: bool = False) -> None:
        """Send `farewell` and what is queued, hear the peer's if `awaiting`, then finish; all in
        `close_timeout`.

        A farewell that is no bytes, as a user's protocol may have it, ends it at once. TypeError.
        """
        self._state = CLOSING
        self._awaiting = awaiting and not self._peer_done
        try:
            if farewell:
                self._write(farewell)
        except TypeError:
            self._finish(abort=True)
            raise
        if (
            self._state is not CLOSING
        ):  # the peer is gone, or on_buffer_full has ended it, or even begun anew
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
            service.lingerer.close_now(self._socket)
        else:
            service.lingerer.close(self._socket)
        try:
            self._is_closed()
        finally:
            service.tell_closed()

    def let_go(self) -> None:
        """In a process that user code has forked: the connection is the parent's. Nobody is
        told."""
        if self._state is not CLOSED:
            self._retire_from_books()
            close_copy(self._socket)

    def _retire_from_books(self) -> None:
        self._state = CLOSED
        service = self._service
        self._watcher.stop()
        self._watcher.close()
        self._drop_outbox()
        service.deadlines.clear(self)
        service.closing.clear(self)
        service.sending.forget(self)
        service.bodies.forget(self)
        self._leave_books()
