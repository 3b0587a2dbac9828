"""The state of a connection, its places in the tables of its process, and its end.

States go ESTABLISHED → CLOSING → CLOSED, or straight to CLOSED, and never back; but ESTABLISHED →
LEAVING, while another process is being given the socket, goes back if that does not take it.
`_finish` is the one door to CLOSED for a socket that ends here, `Moving.left` for one that lives on
elsewhere. It knows no protocol and calls no user code; what the upper half wants to hear of comes
through methods that it overrides.
"""

from __future__ import annotations

from enum import Enum
from time import time
from typing import TYPE_CHECKING, Any

from gworker.connection.access_recorder import Observer
from gworker.connection.context import ServerContext
from gworker.connection.min_rate import NOT_PEERS_FAULT
from gworker.connection.transport import SEND_FAILURES, PauseReason, Transport
from gworker.ipc.scoreboard import Column
from gworker.system.peer_address import Addresses, Credentials, SocketAddress
from gworker.tls.socket import TlsInfo

if TYPE_CHECKING:
    import _socket

# The members of an enum cost an attribute look-up each; these are on the message path.
CONNECTIONS = Column.CONNECTIONS.value


class State(Enum):
    """What `connection.status` shows. CONNECTING: those that this process dials, only."""

    CONNECTING = "connecting"
    ESTABLISHED = "established"
    LEAVING = "leaving"
    CLOSING = "closing"
    CLOSED = "closed"


CONNECTING, ESTABLISHED, LEAVING, CLOSING, CLOSED = State


def raw_bytes(data: Any) -> bytes:
    """What `send(data, raw=True)` sends: any other type is a TypeError, as bytes(5) would be five
    zeros."""
    if type(data) is bytes:
        return data
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    name = type(data).__name__
    raise TypeError(
        f"send(..., raw=True) takes bytes, not {name}: it is past the protocol, so nothing "
        "encodes it"
    )


class Stream(Addresses):
    """A transport, and what becomes of it."""

    __slots__ = (
        "__weakref__",
        "_awaiting",
        "_observer",
        "_service",
        "_state",
        "_transport",
        "accepted_at",
        "id",
    )

    def __init__(
        self,
        service: ServerContext,
        socket: _socket.socket,
        remote: SocketAddress,
        id: int | None = None,
    ) -> None:
        self._service = service
        self.id = service.registry.next_id() if id is None else id
        self.accepted_at = int(time())
        self._state = ESTABLISHED
        self._awaiting = False
        self._observer: Observer | None = None
        self._transport = self._make_transport(socket, remote)

    def _make_transport(self, socket: _socket.socket, remote: SocketAddress) -> Transport:
        return Transport(self._service, self, socket, remote, 0)

    @property
    def _remote(self) -> SocketAddress:  # type: ignore[override]
        return self._transport.remote

    @property
    def protocol(self) -> str:
        """The name of its protocol."""
        raise NotImplementedError

    @property
    def bytes_read(self) -> int:
        """Bytes that the peer has sent."""
        return self._transport.bytes_read

    @property
    def bytes_written(self) -> int:
        """Bytes that the kernel has taken for the peer."""
        return self._transport.bytes_written

    @property
    def max_send_buffer_size(self) -> int:
        """Bytes that may wait to be sent before `send` refuses more."""
        return self._transport.max_send_buffer_size

    @max_send_buffer_size.setter
    def max_send_buffer_size(self, size: int) -> None:
        self._transport.max_send_buffer_size = size

    @property
    def send_queue(self) -> int:
        """Bytes that wait to be sent."""
        return self._transport.buffered

    @property
    def is_full(self) -> bool:
        """True while `send` refuses messages because `max_send_buffer_size` bytes wait."""
        return self._transport.is_full

    def flush_observer(self) -> None:
        """The process ends: the access log gets the lines that are due."""
        if self._observer is not None:
            self._observer.closed(self)

    def _write(self, data: bytes) -> bool:
        observer = self._observer
        if observer is None:
            return self._transport.write(data)
        observer.sending(data)
        taken = self._transport.write(data)
        observer.sent(self)
        return taken

    def _write_both(self, head: bytes, body: bytes) -> bool:
        observer = self._observer
        if observer is None:
            return self._transport.write_parts(head, body)
        observer.sending(head, len(body))
        taken = self._transport.write_parts(head, body)
        observer.sent(self)
        return taken

    def write_failed(self) -> None:
        self._end_refused("client closed")

    def connection_lost(self) -> None:
        self._finish(abort=True)

    def _end_refused(self, message: str) -> None:
        raise NotImplementedError

    def _became_full(self) -> None:
        """What is queued has reached `max_send_buffer_size`."""

    def buffer_full(self) -> None:
        self._became_full()

    def _refused(self, message: str) -> bool:
        self._service.row[SEND_FAILURES] += 1
        self._was_refused(message)
        return False

    def _was_refused(self, message: str) -> None:
        """Bytes could not be sent."""

    def data_received(self, data: bytes) -> None:
        raise NotImplementedError

    def reset_received(self) -> None:
        raise NotImplementedError

    def _enter_books(self) -> None:
        self._service.registry.register(self, self._transport.remote)

    def _leave_books(self) -> None:
        self._service.registry.unregister(self, self._transport.remote)

    # ---- for the upper half

    def _became_empty(self) -> None:
        """All is sent, after it was full."""

    def _is_closed(self) -> None:
        """The state has become CLOSED."""

    # ---- what users see

    def _local(self) -> SocketAddress:
        return self._transport.local

    @property
    def transport(self) -> str:
        """`tcp`, `unix`, or `ssl` for TLS on either."""
        return self._transport.kind

    @property
    def peer_credentials(self) -> Credentials | None:
        """The process at the other end of a unix socket: (pid, uid, gid). None for other sockets,
        and once closed."""
        return self._transport.peer_credentials

    @property
    def tls(self) -> TlsInfo | None:
        """What TLS has agreed with the peer; None for a connection without."""
        return self._transport.tls

    @property
    def status(self) -> str:
        """`established`, `closing` or `closed`."""
        return self._state.value

    @property
    def peer_closed(self) -> bool:
        """True once the peer has finished sending. It may still read: an answer that is due is sent
        to it."""
        return self._transport.eof_received

    @property
    def taken(self) -> int | None:
        """For `pace`: what the peer has taken so far; None: nothing waits for it, neither here nor
        in the kernel."""
        if self._state is LEAVING:
            return NOT_PEERS_FAULT
        return self._transport.acknowledged

    @property
    def unacknowledged(self) -> int:
        """Bytes that the peer has not acknowledged: those that wait here, and those that the kernel
        holds for it."""
        return self._transport.unacknowledged

    def pause_recv(self) -> None:
        """Stop reading; the kernel then holds the peer back."""
        self._transport.pause(PauseReason.USER)

    def resume_recv(self) -> None:
        """Go on reading."""
        self._transport.resume(PauseReason.USER)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until everything is sent. False: `timeout` seconds passed, or the connection is
        gone."""
        return self._transport.drain(timeout) and self._state is not CLOSED

    def close_timed_out(self) -> None:
        """It has been closing for `close_timeout`: who has taken something meanwhile may go on."""
        outbox = self._transport.write_buffer
        if outbox is not None and (taken := self.taken or 0) > outbox.seen:
            outbox.seen = taken
            self._service.timeouts.closing(self)
        else:
            self.cut()

    def cut(self) -> None:
        """The time to close politely is up. A reset tells the peer that what it has is not all."""
        if self._transport.write_buffer is not None:
            self.reset()
        else:  # the peer may go on with what the kernel holds for it
            self._finish(abort=True)

    def reset(self) -> None:
        """Close now, with a reset: what waits for the peer is dropped, also in the kernel."""
        self._finish(abort=True, reset=True)

    def destroy(self) -> None:
        """Close now and drop what is queued."""
        self._finish(abort=True)

    # ---- what becomes of what is queued

    def write_progress(self) -> None:
        if self._observer is not None:
            self._observer.progressed(self)
        if self._state is CLOSING:  # a slow reader is no stuck one
            self._service.timeouts.closing(self, anew=True)

    def buffer_drained(self, was_full: bool) -> None:
        if self._observer is not None:
            self._observer.progressed(self)
        if self._state is CLOSING:
            self._finish_if_flushed()
            return
        if was_full:
            self._became_empty()

    # ---- ending

    def _close(self, farewell: bytes, awaiting: bool = False) -> None:
        """Send `farewell` and what is queued, hear the peer's if `awaiting`, then finish; all in
        `close_timeout`.

        A farewell that is no bytes, as a user's protocol may have it, ends it at once. TypeError.
        """
        self._state = CLOSING
        self._awaiting = awaiting and not self._transport.eof_received
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
            self._transport.resume(-1)
        else:
            self._transport.pause(PauseReason.BACKPRESSURE)
        if self._transport.write_buffer is not None:
            self._transport.write_buffer.seen = self.taken or 0
        self._service.timeouts.closing(self)
        self._finish_if_flushed()

    def _finish_if_flushed(self) -> None:
        if self._transport.write_buffer is None and not self._awaiting:
            self._finish(abort=False)

    def _finish(self, abort: bool, reset: bool = False) -> None:
        if self._state is CLOSED:
            return
        if self._state is LEAVING:  # whoever has it then hears of it as the end of the stream
            self._transport.shut_down()
            return
        self._unregister()
        if abort:
            self._transport.abort(reset)
        else:
            self._transport.close()
        try:
            self.flush_observer()
            self._is_closed()
        finally:
            self._service.registry.notify_closed()

    def let_go(self) -> None:
        """In a process that user code has forked: the connection is the parent's. Nobody is
        told."""
        if self._state is not CLOSED:
            self._unregister()
            self._transport.forget()

    def _unregister(self) -> None:
        self._state = CLOSED
        self._service.timeouts.forget(self)
        self._leave_books()
