"""The sending half of a connection: what the socket does not take at once waits in an outbox.

It knows no state of the connection. What happens to the bytes it tells by methods that those who
build on it
override: `_finish` and `_end_refused` are to end the connection, `_sent_some` and `_is_flushed`
hear how what is queued goes, `_became_full` and `_was_refused` what does not fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gworker.connection.context import ServerContext
from gworker.connection.write_buffer import Outbox
from gworker.ipc.scoreboard import Column
from gworker.system.peer_address import Addresses
from gworker.tls.socket import RECORD, TlsSocket

if TYPE_CHECKING:
    import _socket

# The members of an enum cost an attribute look-up each; this is on the message path.
SEND_FAILURES = Column.SEND_FAILURES.value

WRITE = 2
"""libev's event bit."""


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


class Sender(Addresses):
    """Writes to a non-blocking socket at once, and queues the rest in order."""

    __slots__ = ("_outbox", "_service", "_socket", "bytes_written", "max_send_buffer_size")

    def __init__(self, service: ServerContext, socket: _socket.socket) -> None:
        self._service = service
        self._socket = socket
        self._outbox: Outbox | None = None
        self.bytes_written = 0
        self.max_send_buffer_size = 0

    # ---- for those who build on it

    def _finish(self, abort: bool) -> None:
        """End the connection; `abort`: at once."""
        raise NotImplementedError

    def _end_refused(self, message: str) -> None:
        """End the connection at once: bytes could not be sent."""
        raise NotImplementedError

    def _sent_some(self) -> None:
        """The peer has taken a part of what is queued."""

    def _is_flushed(self, was_full: bool) -> None:
        """All that was queued is sent. was_full: `_became_full` was called."""

    def _became_full(self) -> None:
        """What is queued has reached `max_send_buffer_size`."""

    def _was_refused(self, message: str) -> None:
        """Bytes could not be sent."""

    # ---- what users see

    @property
    def send_queue(self) -> int:
        """Bytes that wait to be sent."""
        return self._outbox.size if self._outbox is not None else 0

    @property
    def is_full(self) -> bool:
        """True while `send` refuses messages because `max_send_buffer_size` bytes wait."""
        return self._outbox is not None and 0 < self._outbox.size >= self.max_send_buffer_size

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
            return self._queue(data, sent)
        return self._queue(data)

    def _write_both(self, head: bytes, body: bytes) -> bool:
        """`_write` two pieces as one, without a copy of the second."""
        socket, outbox, sent = self._socket, self._outbox, 0
        rest: bytes | memoryview = body
        if isinstance(socket, TlsSocket):  # a record is one piece
            head += body[:RECORD]
            rest = memoryview(body)[RECORD:]
        if outbox is None:
            try:
                sent = _send_pieces(socket, head, rest)
            except BlockingIOError:
                pass
            except OSError:
                return self._is_gone()
            self.bytes_written += sent
            self._service.bytes_written += sent
            if sent == len(head) + len(rest):
                return True
            outbox = self._outbox = self._make_outbox()
        if sent < len(head):
            outbox.append(head, sent)
            sent = len(head)
        return self._queue(body, len(body) - len(rest) + sent - len(head))

    def _is_gone(self) -> bool:
        """The peer takes nothing any more."""
        self._service.row[SEND_FAILURES] += 1
        self._end_refused("client closed")
        return False

    def _queue(self, data: bytes, start: int = 0) -> bool:
        """Let `data[start:]` wait for the socket."""
        outbox = self._outbox
        if outbox is None:
            outbox = self._outbox = self._make_outbox()
        # What stays queued must not change under us: a bytearray is its owner's. As for the socket,
        # what has no bytes is a TypeError: bytes(5) would be five zeros.
        outbox.append(data if type(data) is bytes else bytes(memoryview(data)), start)
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
        """The socket takes more. In the hub."""
        outbox = self._outbox
        assert outbox is not None
        try:
            sent = outbox.flush(self._socket)
        except OSError:
            self._finish(abort=True)
            return
        self.bytes_written += sent
        self._service.bytes_written += sent
        if not outbox.size:
            self._drop_outbox()
            self._is_flushed(outbox.full)
        elif sent:
            self._sent_some()

    def _drop_outbox(self) -> None:
        outbox, self._outbox = self._outbox, None
        if outbox is not None:
            self._service.sending.forget(self)
            outbox.close()


def _send_pieces(socket: _socket.socket, head: bytes, rest: bytes | memoryview) -> int:
    return (
        socket.send_pieces(head, rest)
        if isinstance(socket, TlsSocket)
        else socket.sendmsg((head, rest))
    )
