"""A non-blocking socket: what is read from it, what waits to be sent, its counters.

A Transport owns the socket, its place in the epoll set (`poller`), and the write buffer. It knows
no protocol, no callback and no greenlet, and tells its owner, the connection, what happens.
Reading stops as long as there is a reason (`PauseReason`); the kernel then holds the peer back.
"""

from __future__ import annotations

import contextlib
import os
from _socket import SHUT_RDWR, SHUT_WR, SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING, Any

from gworker.connection.state import PauseReason
from gworker.connection.write_buffer import WriteBuffer
from gworker.core import ReceiveBuffer, TransportState
from gworker.core.poller import EDGE, IN, READABLE, WRITABLE, Job
from gworker.http.forwarded import Origin
from gworker.ipc.scoreboard import Column
from gworker.system import peer_address
from gworker.system.peer_address import Credentials, SocketAddress
from gworker.system.socket_options import RESET, has_unread, untaken
from gworker.tls.socket import RECORD, TlsInfo, TlsSocket, WantsWriting

if TYPE_CHECKING:
    import _socket

    from gworker.connection.context import ServerContext
    from gworker.connection.lent_socket import LentSocket
    from gworker.http.session import Session

READ_SIZE = 65536
LARGE_READ_SIZE = 126976
"""Bytes per recv(2), and after that was filled once: then a message of 64 KiB comes in one read,
with its header. Above 128 KiB malloc(3) would map memory anew each time."""


class Transport(TransportState):
    """The socket of one connection.

    write_buffer: what the kernel has not taken yet; None: nothing. pause_reasons: bits of
    PauseReason; read only. eof_received: the peer has finished sending. remote: its address.
    receive_buffer: where what comes next is read to; None: it goes to the owner.
    bytes_read, bytes_written: counted from the beginning. max_send_buffer_size: bytes of
    `write_buffer` that make it full.
    """

    __slots__ = ()

    def __init__(
        self,
        server: ServerContext,
        owner: Any,
        socket: _socket.socket,
        remote: SocketAddress,
        max_send_buffer_size: int,
    ) -> None:
        self._server = server
        self._owner: Any = owner  # None once it is closed: the owner is freed at once then
        self._socket = socket
        self._read_size = READ_SIZE
        self.receive_buffer: ReceiveBuffer | None = None
        self.remote = remote
        self.write_buffer: WriteBuffer | None = None
        self.pause_reasons = 0
        self.eof_received = False
        self.bytes_read = 0
        self.bytes_written = 0
        self.max_send_buffer_size = max_send_buffer_size

    # ---- what it is

    @property
    def kind(self) -> str:
        """`tcp`, `unix`, or `ssl` for TLS on either."""
        if self.is_tls:
            return "ssl"
        return "tcp" if isinstance(peer_address.connected(self.remote), tuple) else "unix"

    @property
    def origin(self) -> Origin | SocketAddress:
        """Where the peer's requests come from."""
        return self._server.origin_of(self.remote, self.is_tls)

    def keep_session(self, head: bytes, session: Session) -> None:
        """The handler of the request with this head has asked for its session."""
        if self._owner is not None:
            from gworker.connection.sessions import keep  # hardly any process has some

            keep(self._owner.protocol_machine, head, session)

    @property
    def is_tls(self) -> bool:
        return isinstance(self._socket, TlsSocket)

    @property
    def tls(self) -> TlsInfo | None:
        """What TLS has agreed with the peer; None for a connection without."""
        return self._socket.info if isinstance(self._socket, TlsSocket) else None

    @property
    def peer_credentials(self) -> Credentials | None:
        """The process at the other end of a unix socket (unix(7), SO_PEERCRED)."""
        return peer_address.credentials_of(self._socket)

    @property
    def local(self) -> SocketAddress:
        """Our address; None once it is closed."""
        is_closed = self.pause_reasons & PauseReason.CLOSED
        return None if is_closed else peer_address.local_of(self._socket)

    def fileno(self) -> int:
        return self._socket.fileno()

    # ---- what the poller tells

    def on_ready(self, events: int) -> Job | None:
        """The socket can be read or written: do it, and return the job that is to begin."""
        if events != IN:
            if events & ~READABLE and self.write_buffer is not None:
                self._flush()
            if events == WRITABLE:
                return None
        if self.pause_reasons or self.eof_received:
            if events & READABLE:  # an end or an error is told whatever is asked for
                self._watch()
            return None
        buffer = self.receive_buffer
        if buffer is not None and buffer.left:
            return self._read_into(buffer, events)
        asked = self._read_size
        try:
            data = self._socket.recv(asked)
        except BlockingIOError as blocked:
            if blocked.__class__ is WantsWriting:
                self._read_when_writable()
            return None
        except OSError:
            self.eof_received = True
            self._owner.reset_received()
            return None
        size = len(data)
        self.bytes_read += size
        self._server.bytes_read += size
        if not size:
            self.eof_received = True
        elif size == asked or events != IN:  # there may be more, or an end follows
            if size == asked:
                self._read_size = LARGE_READ_SIZE
            self._watch()
        job: Job | None = self._owner.data_received(data)
        return job

    def _read_into(self, buffer: ReceiveBuffer, events: int) -> Job | None:
        # As the rest of `on_ready`, for a message of which it is known how much is to come.
        asked = buffer.room
        try:
            size = buffer.read_from(self._socket)
        except BlockingIOError:
            return None
        except OSError:
            self.eof_received = True
            self._owner.reset_received()
            return None
        job: Job | None
        if not size:
            self.eof_received = True
            job = self._owner.data_received(b"")
            return job
        self.bytes_read += size
        self._server.bytes_read += size
        if not buffer.left:
            self.receive_buffer = None
        if size == asked or events != IN:
            self._watch()
        job = self._owner.buffer_received(size)
        return job

    def _watch(self) -> None:
        # Have the poller tell what can be done now, and from now on when that changes.
        if self.pause_reasons & PauseReason.GONE:
            return
        events = EDGE
        if not (self.pause_reasons or self.eof_received):
            events = READABLE | EDGE if self.kind in ("tcp", "udp") else READABLE
        if self.write_buffer is not None:
            events |= WRITABLE
        self._server.poller.watch(self._socket.fileno(), self, events)

    # ---- reading

    def read_now(self) -> None:
        """Do not wait for the poller to tell that something has come. In the hub."""
        if (job := self.on_ready(IN)) is not None:
            self._server.pool.start(job)

    def read_into(self, buffer: ReceiveBuffer | None) -> None:
        """Read what comes next into `buffer`, which is not full, until it is; None: not any more.

        With TLS that changes nothing: a record is read whole.
        """
        if buffer is None or not self.is_tls:
            self.receive_buffer = buffer
            if buffer is not None and buffer.size > LARGE_READ_SIZE:
                self._read_size = READ_SIZE  # most of it is not read that way

    def _read_when_writable(self) -> None:
        # TLS cannot read on before it has answered the peer.
        self.pause(PauseReason.WRITE_BLOCKED)
        if self.write_buffer is None:
            self._make_write_buffer()  # empty: we hear when the socket can be written, and it goes

    def pause(self, reason: int) -> None:
        """Stop reading for `reason`, a PauseReason."""
        self.pause_reasons |= reason

    def resume(self, reason: int) -> None:
        """`reason` has gone: read on if there is no other."""
        if self.pause_reasons:
            self.pause_reasons &= ~reason
            self.read_on()

    def read_on(self) -> None:
        """Read what is there and what comes, if nothing is against it."""
        if not self.pause_reasons and not self.eof_received:
            self._watch()

    def has_unread(self) -> bool:
        # with TLS also if that is not known
        return self.is_tls or has_unread(self._socket)

    # ---- writing

    def write(self, data: bytes) -> bool:
        """Send `data`; what the socket does not take waits. False: the peer is gone."""
        if self.write_buffer is not None:
            return self._queue(data)
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return self._fail()
        self.bytes_written += sent
        self._server.bytes_written += sent
        return sent == len(data) or self._queue(data, sent)

    def write_parts(self, head: bytes, body: bytes) -> bool:
        """`write` two pieces as one, without a copy of the second."""
        sent = 0
        rest: bytes | memoryview = body
        socket: Any = self._socket
        is_tls = isinstance(socket, TlsSocket)
        if is_tls:  # a record is one piece
            head += body[:RECORD]
            rest = memoryview(body)[RECORD:]
        buffer = self.write_buffer
        if buffer is None:
            try:
                sent = socket.send_pieces(head, rest) if is_tls else socket.sendmsg((head, rest))
            except BlockingIOError:
                pass
            except OSError:
                return self._fail()
            self.bytes_written += sent
            self._server.bytes_written += sent
            if sent == len(head) + len(rest):
                return True
            buffer = self._make_write_buffer()
        if sent < len(head):
            buffer.append(head, sent)
            sent = len(head)
        return self._queue(body, len(body) - len(rest) + sent - len(head))

    def send_file(self, descriptor: int, position: int, size: int) -> int:
        """Send up to `size` bytes of a regular file from `position`; return how many were sent, or
        wait to be. 0: there are none, or the peer is gone. With nothing buffered before it."""
        if not self.is_tls and self.write_buffer is None:
            try:
                sent = os.sendfile(self._socket.fileno(), descriptor, position, size)
            except BlockingIOError:
                pass  # what the socket does not take is read, and waits
            except OSError:
                self._fail()
                return 0
            else:
                self.bytes_written += sent
                self._server.bytes_written += sent
                return sent
        data = os.pread(descriptor, size, position)
        return len(data) if data and self.write(data) else 0

    def _fail(self) -> bool:
        if self._owner is None:  # closed while the message was encoded
            return False
        self._server.row[Column.SEND_FAILURES] += 1
        self._owner.write_failed()
        return False

    def _queue(self, data: bytes, start: int = 0) -> bool:
        buffer = self.write_buffer
        if buffer is None:
            buffer = self._make_write_buffer()
        # What stays queued must not change under us: a bytearray is its owner's. As for the socket,
        # what has no bytes is a TypeError: bytes(5) would be five zeros.
        buffer.append(data if type(data) is bytes else bytes(memoryview(data)), start)
        if buffer.size >= self.max_send_buffer_size and not buffer.full:
            buffer.full = True
            self._owner.buffer_full()
        return True

    def _make_write_buffer(self) -> WriteBuffer:
        self._server.timeouts.sending(self._owner)
        self.write_buffer = buffer = WriteBuffer()
        self._watch()
        return buffer

    def _flush(self) -> None:
        # The socket takes more.
        buffer = self.write_buffer
        assert buffer is not None
        try:
            sent = buffer.flush(self._socket)
        except OSError:
            self._owner.connection_lost()
            return
        self.bytes_written += sent
        self._server.bytes_written += sent
        if not buffer.size:
            self._drop_write_buffer()
            self.pause_reasons &= ~PauseReason.WRITE_BLOCKED
            self._watch()
            self._owner.buffer_drained(buffer.full)
        elif sent:
            self._owner.write_progress()

    def _drop_write_buffer(self) -> None:
        buffer, self.write_buffer = self.write_buffer, None
        if buffer is not None:
            self._server.timeouts.sent(self._owner)
            buffer.close()

    @property
    def buffered(self) -> int:
        """Bytes that wait for the kernel to take them."""
        return 0 if self.write_buffer is None else self.write_buffer.size

    @property
    def is_full(self) -> bool:
        """True while `max_send_buffer_size` bytes or more wait."""
        buffer = self.write_buffer
        return buffer is not None and 0 < buffer.size >= self.max_send_buffer_size

    @property
    def unacknowledged(self) -> int:
        """Bytes that wait for the peer, here or in the kernel (tcp(7), SIOCOUTQ)."""
        return self.buffered + untaken(self._socket)

    @property
    def acknowledged(self) -> int | None:
        """Bytes that the peer has taken; None: nothing waits for it, here or in the kernel."""
        left = untaken(self._socket)
        return self.bytes_written - left if left or self.write_buffer is not None else None

    def drain(self, timeout: float | None) -> bool:
        """Block this greenlet until nothing waits. False: `timeout` seconds passed first."""
        return self.write_buffer is None or self.write_buffer.wait(timeout)

    # ---- the end

    def close(self) -> None:
        """Close once the peer has got what the kernel holds for it (`lingering_close`)."""
        self._detach_owner()
        lingerer = self._server.lingerer
        (lingerer.close_now if self.eof_received else lingerer.close)(self._socket)

    def abort(self, reset: bool = False) -> None:
        """Close now, and drop what waits here. reset: what the kernel holds for the peer, too."""
        if reset:
            self._socket.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        self._detach_owner()
        self._server.lingerer.close_now(self._socket)

    def finish_sending(self) -> None:
        """Say in TLS that nothing more is sent (RFC 8446, 6.1: close_notify)."""
        if self.is_tls:
            with contextlib.suppress(OSError):
                self._socket.shutdown(SHUT_WR)

    def _detach_owner(self) -> None:
        self._server.poller.forget(self._socket.fileno(), self)
        self._drop_write_buffer()
        self.receive_buffer = None
        self._owner = None
        self.pause_reasons |= PauseReason.CLOSED

    def callback_failed(self) -> None:
        if self._owner is not None:
            self._owner.connection_lost()

    # ---- for another process

    def detach(self) -> int:
        """Touch the socket no more until `reattach`; return its descriptor."""
        self.pause(PauseReason.DETACHED)
        descriptor = self._socket.fileno()
        self._server.poller.forget(descriptor, self)
        return descriptor

    def reattach(self) -> None:
        """Go on after `detach`."""
        self.pause_reasons &= ~PauseReason.DETACHED
        self._watch()

    def lend(self, ahead: bytes) -> LentSocket:
        """Hand out a cooperative socket, which gives `ahead` first. Touch ours no more but to end
        it."""
        from gworker.connection.lent_socket import lend

        self.detach()
        self._server.registry.extra_descriptors += 1
        return lend(self._socket, ahead)

    def count(self, read: int, written: int) -> None:
        """So many bytes went over the socket that was handed out."""
        self.bytes_read += read
        self.bytes_written += written
        self._server.bytes_read += read
        self._server.bytes_written += written

    def shut_down(self) -> None:
        """End the stream in both directions for each process that has the socket."""
        with contextlib.suppress(OSError):  # the peer was quicker
            self._socket.shutdown(SHUT_RDWR)

    def forget(self) -> None:
        """Close the descriptor: the socket lives on in another process."""
        self._detach_owner()
        if isinstance(self._socket, TlsSocket):
            self._socket.let_go()
        else:
            self._socket.close()

    def state(self) -> dict[str, Any]:
        """What `restore` needs in another process."""
        buffer = self.write_buffer
        return {
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "max_send_buffer_size": self.max_send_buffer_size,
            "paused": self.pause_reasons & (PauseReason.USER | PauseReason.WRITE_BLOCKED),
            "unsent": b"" if buffer is None else buffer.data(),
            "full": buffer is not None and buffer.full,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another process has stopped. It is detached until `reattach`."""
        self.bytes_read = state["bytes_read"]
        self.bytes_written = state["bytes_written"]
        self.max_send_buffer_size = state["max_send_buffer_size"]
        self.pause_reasons = state["paused"] | PauseReason.DETACHED
        if state["unsent"]:
            buffer = self._make_write_buffer()
            buffer.append(state["unsent"])
            buffer.full = state["full"]
