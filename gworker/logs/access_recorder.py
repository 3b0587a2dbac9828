"""Connections that write the access log: made in place of the plain ones when there is one.

So a connection costs nothing more when there is none. For HTTP the protocol is wrapped as well
(`exchanges`).
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.session import Session
from gworker.http.forwarded import Origin
from gworker.http.request import Request
from gworker.logs.access_log import AccessLog, Entry
from gworker.logs.exchanges import Exchange, HeadNotes, HttpNotes, recording
from gworker.protocols.base import Protocol
from gworker.protocols.http.head_buffer import HeadProtocol
from gworker.protocols.http.protocol import HttpProtocol
from gworker.server.socketserver_adapter import LegacyConnection, LegacyServer
from gworker.system.peer_address import SocketAddress

if TYPE_CHECKING:
    import _socket

NO_ANSWER = 444
CLIENT_GONE = 499
"""In place of a status, as in nginx: we closed without an answer; the peer did not wait for it."""

SWITCHING = 101

MOST_PENDING = 16
"""Answered requests of one connection that may wait for their answers to be sent: each keeps its
head for the log."""


def kinds(
    service: ServerContext, kind: type[Connection], protocol: type[Protocol]
) -> tuple[type[Connection], type[Protocol]]:
    """What to make in place of `kind` and `protocol`, so that the access log, if there is one, is
    written."""
    if service.access is None:
        return kind, protocol
    session = issubclass(kind, Session)
    if issubclass(protocol, HttpProtocol):
        return (HttpSession if session else HttpConnection), recording(HttpNotes, protocol)
    if issubclass(protocol, HeadProtocol):
        protocol = recording(HeadNotes, protocol)
    return (OtherSession if session else OtherConnection), protocol


def arriving_kind(service: ServerContext, protocol: Protocol) -> type[Connection]:
    """The same for a connection that a predecessor hands over."""
    if service.access is None:
        return Connection
    return HttpConnection if isinstance(protocol, HttpNotes) else OtherConnection


def legacy_kind(service: ServerContext) -> type[LegacyConnection]:
    """The same for a connection that a socketserver class handles."""
    return LegacyConnection if service.access is None else RecordedLegacy


def _access_of(service: ServerContext) -> AccessLog:
    assert service.access is not None
    return service.access


class _HttpRecorder(Connection):
    """A line for each exchange, when the last byte of its answer was given to the kernel.

    One that was upgraded gets its line as a WebSocket does: when it has closed.
    """

    def __init__(self, service: ServerContext, *arguments: Any) -> None:
        super().__init__(service, *arguments)
        self._pending: deque[Exchange] | None = None
        self._upgraded: Exchange | None = None
        self._access = _access_of(service)

    def _write_both(self, head: bytes, body: bytes) -> bool:
        done = super()._write_both(head, body)
        notes = self._protocol
        if isinstance(notes, HttpNotes) and notes.answered:
            self._take_answered(notes)
        return done

    def _write(self, data: bytes) -> bool:
        done = super()._write(data)
        notes = self._protocol
        if isinstance(notes, HttpNotes):
            if notes.answered:
                self._take_answered(notes)
            elif notes.current is not None:
                _note_raw(notes.current, data)
        return done

    def _pull(self, data: bytes | None = None) -> None:
        before = self._protocol
        super()._pull(data)
        if isinstance(before, HttpNotes) and before is not self._protocol:  # it was upgraded
            self._take_answered(before)

    def _take_answered(self, notes: HttpNotes) -> None:
        answered, notes.answered = notes.answered, []
        if answered and answered[-1].status == SWITCHING:
            self._upgraded = answered.pop()
        if self._transport.write_buffer is None and self._pending is None:
            for exchange in answered:
                self._record(exchange, exchange.size)
            return
        end = self.bytes_written + self.send_queue
        for exchange in answered:
            exchange.end = end
        if self._pending is None:
            self._pending = deque()
        self._pending.extend(answered)

    def _has_room(self) -> bool:
        pending = self._pending
        return super()._has_room() and (
            self._transport.write_buffer is None or pending is None or len(pending) < MOST_PENDING
        )

    def write_progress(self) -> None:
        super().write_progress()
        self._record_sent()

    def buffer_drained(self, was_full: bool) -> None:
        super().buffer_drained(was_full)
        self._record_sent()

    def _record_sent(self) -> None:
        while self._pending and self._pending[0].end <= self.bytes_written:
            exchange = self._pending.popleft()
            self._record(exchange, exchange.size)
        if not self._pending:
            self._pending = None

    def pack(self) -> dict[str, Any]:
        packed = {**super().pack(), "pending": self._pending}
        return packed if self._upgraded is None else {**packed, "opened": self._upgraded.began}

    def unpack(self, packed: dict[str, Any]) -> None:
        super().unpack(packed)
        self._pending = packed.get("pending")

    def _is_closed(self) -> None:
        self.record_rest()
        super()._is_closed()

    def record_rest(self) -> None:
        """It ends, or its process does: tell what is still open."""
        pending, self._pending = self._pending or (), None
        for exchange in pending:
            missing = max(0, exchange.end - self.bytes_written)
            self._record(exchange, max(0, exchange.size - missing), aborted=missing > 0)
        notes = self._protocol
        if isinstance(notes, HttpNotes):
            for exchange in notes.answered:  # written to a connection that was gone
                self._record(exchange, 0, aborted=True)
            notes.answered = []
            if notes.current is not None:
                exchange, notes.current = notes.current, None
                aborted = exchange.status == 0 or exchange.is_streamed
                exchange.status = exchange.status or (
                    CLIENT_GONE if self._transport.eof_received else NO_ANSWER
                )
                self._record(exchange, exchange.size, aborted)
        if self._upgraded is not None:
            _record_whole(self, self._access, self._upgraded.head, SWITCHING, self._upgraded.began)
            self._upgraded = None

    def _record(self, exchange: Exchange, sent: int, aborted: bool = False) -> None:
        self._access.add(
            Entry(
                self.protocol, _client_ip(self, exchange.head), self.remote_address, exchange.head,
                exchange.status,
                sent, monotonic() - exchange.began, aborted,
            )
        )  # fmt: skip


def _client_ip(connection: Connection, head: bytes) -> str:
    """By what trusted proxies say, if the head is whole and they say it."""
    origin = getattr(connection._protocol, "origin", None)
    if isinstance(origin, Origin) and origin.trust is not None and head.endswith(b"\r\n\r\n"):
        return Request(head, origin=origin).client_ip or connection.remote_ip
    return connection.remote_ip


def _note_raw(exchange: Exchange, data: bytes) -> None:
    """A handler that answers past the protocol: its status line tells, and its end is the
    connection's."""
    if exchange.status:
        exchange.size += len(data)
    elif data[:7] == b"HTTP/1." and data[9:10] in b"2345" and data[9:12].isdigit():
        exchange.status = int(data[9:12])
        exchange.size = max(0, len(data) - data.find(b"\r\n\r\n") - 4)


def _record_whole(
    connection: Connection,
    access: AccessLog,
    head: bytes,
    status: int,
    opened: float,
) -> None:
    """The line of a connection that has closed."""
    protocol = connection._protocol
    code, reason = getattr(protocol, "farewell", (0, ""))
    if not code:
        code, reason = getattr(protocol, "close_code", 0), getattr(protocol, "close_reason", "")
    access.add(
        Entry(
            connection.protocol, _client_ip(connection, head), connection.remote_address, head,
            status,
            connection.bytes_written, monotonic() - opened, False, connection.bytes_read, code,
            reason,
        )
    )  # fmt: skip


class _Recorder(Connection):
    """One line when it has closed."""

    def __init__(self, service: ServerContext, *arguments: Any) -> None:
        super().__init__(service, *arguments)
        self._opened = monotonic()
        self._refusal = 0
        self._access = _access_of(service)

    def _close(self, farewell: bytes, awaiting: bool = False) -> None:
        # What is no bytes, as a user's protocol may have it, is for the connection to refuse.
        if (
            isinstance(farewell, bytes)
            and farewell[:7] == b"HTTP/1."
            and isinstance(self._protocol, HeadNotes)
        ):
            self._refusal = int(farewell[9:12])
        super()._close(farewell, awaiting)

    def pack(self) -> dict[str, Any]:
        return {
            **super().pack(),
            "opened": self._opened,
        }  # CLOCK_MONOTONIC is the machine's, not the process's

    def unpack(self, packed: dict[str, Any]) -> None:
        super().unpack(packed)
        self._opened = packed.get("opened", self._opened)

    def _is_closed(self) -> None:
        self.record_rest()
        super()._is_closed()

    def record_rest(self) -> None:
        """It ends, or its process does."""
        if self.request is not None:
            head = self.request._head
        else:
            head = self._protocol.head if isinstance(self._protocol, HeadNotes) else b""
        _record_whole(self, self._access, head, self._status(head), self._opened)

    def _status(self, head: bytes) -> int:
        """Of the handshake, if there is one."""
        if self._refusal or not head:
            return self._refusal
        return SWITCHING if self.request is not None and not self._asking else CLIENT_GONE


class HttpConnection(_HttpRecorder, Connection):
    """http, with callbacks."""


class HttpSession(_HttpRecorder, Session):
    """http, with a connection handler."""


class OtherConnection(_Recorder, Connection):
    """Anything else, with callbacks."""


class OtherSession(_Recorder, Session):
    """Anything else, with a connection handler."""


class RecordedLegacy(LegacyConnection):
    """A connection that a socketserver class handles."""

    def __init__(
        self,
        service: ServerContext,
        server: LegacyServer,
        socket: _socket.socket,
        remote: SocketAddress,
    ) -> None:
        super().__init__(service, server, socket, remote)
        self._opened = monotonic()
        self._access = _access_of(service)

    def _finish(self) -> None:
        self.record_rest()
        super()._finish()

    def record_rest(self) -> None:
        """It ends, or its process does."""
        self._access.add(
            Entry(
                self.protocol, self.remote_ip, self.remote_address, b"", 0, self.bytes_written,
                monotonic() - self._opened, False, self.bytes_read,
            )
        )  # fmt: skip
