"""What a connection writes to the access log. There is none of this without --access-log.

A connection has one observer, which is told what is read, decoded and sent, and of the end. For
HTTP it writes a line for each exchange (`ExchangeRecorder`), for everything else one when the
connection has closed (`ConnectionRecorder`).
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from gworker.connection.member import Observed
from gworker.http.forwarded import Origin
from gworker.http.request import Request
from gworker.logs.access_log import AccessLog, Entry
from gworker.protocols.http.head import HeadProtocol
from gworker.protocols.http.protocol import HttpProtocol

# In place of a status, as in nginx: we closed without an answer; the peer did not wait for it.
NO_ANSWER = 444
CLIENT_GONE = 499

SWITCHING = 101

# Answered requests of one connection that may wait for their answers to be sent: each keeps its
# head for the log.
MAX_PENDING = 16


def recorder_for(access: AccessLog, protocol: object) -> Observer:
    if isinstance(protocol, HttpProtocol):
        return ExchangeRecorder(access, protocol)
    return ConnectionRecorder(access, protocol)


class Exchange:
    """A request and what became of it."""

    __slots__ = ("began", "end", "head", "is_streamed", "size", "status")

    def __init__(self, head: bytes, began: float) -> None:
        self.head = head
        self.began = began
        self.status = 0
        self.size = 0  # bytes of the answer's body
        self.end = 0  # where its answer ends among all bytes sent
        self.is_streamed = False  # its answer is sent in pieces, and has not ended


class ExchangeRecorder:
    """A line for each exchange of HTTP, when the last byte of its answer was given to the kernel.

    One that was upgraded gets its line as a WebSocket does: when it has closed.
    """

    __slots__ = (
        "_access", "_answered", "_began", "_current", "_is_switched", "_pending", "_protocol",
        "_upgraded", "_writing",
    )  # fmt: skip

    def __init__(self, access: AccessLog, protocol: HttpProtocol) -> None:
        self._access = access
        self._protocol: object = protocol
        self._is_switched = False  # another protocol goes on
        self._began = 0.0  # when the first byte of the next request has come
        self._current: Exchange | None = None
        self._answered: Exchange | None = None  # by what is being written
        self._writing = 0
        self._pending: list[Exchange] = []  # answered, and not sent yet; MAX_PENDING at most
        self._upgraded: ConnectionRecorder | None = None

    @property
    def has_room(self) -> bool:
        """False: no further request may be decoded before answers are sent."""
        return len(self._pending) < MAX_PENDING

    def received(self) -> None:
        if not self._began:
            self._began = monotonic()

    def parsed(self) -> None:
        protocol = self._protocol
        if self._is_switched or not isinstance(protocol, HttpProtocol):
            return
        if self._current is None and protocol.is_answering:
            self._current = self._begin(protocol.raw_head)

    def _begin(self, head: bytes) -> Exchange:
        began, self._began = self._began, 0.0
        return Exchange(head, began or monotonic())

    def sending(self, data: bytes, more: int = 0) -> None:
        """`data`, and `more` bytes after it, are about to be written."""
        protocol, current = self._protocol, self._current
        if self._is_switched or not isinstance(protocol, HttpProtocol):
            return
        if current is not None and current.status:
            self._writing = len(data) + more
        else:
            status, size = _final_status(data)
            if current is None:
                if not (status and protocol.raw_head):
                    return
                current = self._begin(protocol.raw_head)  # the protocol itself refuses it
            if status:
                current.status, self._writing = status, size + more
        current.is_streamed = protocol.is_sending
        is_open = protocol.is_answering
        self._current, self._answered = (current, None) if is_open else (None, current)

    def sent(self, connection: Observed) -> None:
        """They were written, or wait to be."""
        exchange = self._answered or self._current
        if exchange is not None:
            exchange.size += self._writing
        self._writing = 0
        answered, self._answered = self._answered, None
        if answered is None:
            return
        if answered.status == SWITCHING:
            self._upgrade(answered)
        elif not self._pending and not connection.send_queue:
            self._record(connection, answered, answered.size)
        else:
            answered.end = connection.bytes_written + connection.send_queue
            self._pending.append(answered)

    def progressed(self, connection: Observed) -> None:
        pending = self._pending
        while pending and pending[0].end <= connection.bytes_written:
            exchange = pending.pop(0)
            self._record(connection, exchange, exchange.size)

    def switched(self, protocol: object) -> None:
        current, self._current = self._current, None
        self._protocol, self._is_switched = protocol, True
        if current is not None:
            self._upgrade(current)

    def _upgrade(self, exchange: Exchange) -> None:
        self._upgraded = ConnectionRecorder(self._access, self._protocol)
        state = {"opened": exchange.began, "head": exchange.head, "status": SWITCHING}
        self._upgraded.restore(state)

    def closed(self, connection: Observed) -> None:
        """It has ended, or its process ends: write the lines that are due."""
        pending, self._pending = self._pending, []
        for exchange in pending:
            missing = max(0, exchange.end - connection.bytes_written)
            self._record(connection, exchange, max(0, exchange.size - missing), missing > 0)
        if self._answered is not None:  # written to a connection that was gone
            self._record(connection, self._answered, 0, aborted=True)
            self._answered = None
        if self._current is not None:
            exchange, self._current = self._current, None
            aborted = exchange.status == 0 or exchange.is_streamed
            unanswered = CLIENT_GONE if connection.peer_closed else NO_ANSWER
            exchange.status = exchange.status or unanswered
            self._record(connection, exchange, exchange.size, aborted)
        if self._upgraded is not None:
            self._upgraded.closed(connection)
            self._upgraded = None

    def state(self) -> dict[str, Any]:
        own: dict[str, Any] = {"pending": self._pending, "began": self._began}
        return own if self._upgraded is None else {**own, **self._upgraded.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self._pending = state.get("pending", self._pending)
        self._began = state.get("began", 0.0)
        if "opened" in state:  # it had begun with another protocol: its line is for all of it
            self._is_switched = True
            self._upgraded = ConnectionRecorder(self._access, self._protocol)
            self._upgraded.restore(state)

    def _record(
        self, connection: Observed, exchange: Exchange, sent: int, aborted: bool = False
    ) -> None:
        ip = _client_ip(connection, self._protocol, exchange.head)
        seconds = monotonic() - exchange.began
        self._access.add(
            Entry(
                connection.protocol, ip, connection.remote_address, exchange.head, exchange.status,
                sent, seconds, aborted,
            )
        )  # fmt: skip


class ConnectionRecorder:
    """One line when the connection has closed."""

    __slots__ = ("_access", "_head", "_opened", "_protocol", "_status")

    has_room = True

    def __init__(self, access: AccessLog, protocol: object) -> None:
        self._access = access
        self._protocol = protocol
        self._opened = monotonic()
        self._head = b""
        self._status = 0  # of the handshake, if there is one

    def received(self) -> None:
        """The time runs from the beginning."""

    def parsed(self) -> None:
        if not self._head and isinstance(self._protocol, HeadProtocol):
            self._head = self._protocol.raw_head

    def sending(self, data: bytes, more: int = 0) -> None:
        if not self._status and isinstance(self._protocol, HeadProtocol):
            self._status = _final_status(data)[0]

    def sent(self, connection: Observed) -> None:
        """Bytes are counted by the connection."""

    def progressed(self, connection: Observed) -> None:
        """Bytes are counted by the connection."""

    def switched(self, protocol: object) -> None:
        self._protocol = protocol

    def closed(self, connection: Observed) -> None:
        protocol = self._protocol
        self.parsed()  # a head that was refused
        code, reason = getattr(protocol, "farewell", (0, ""))
        if not code:
            code, reason = getattr(protocol, "close_code", 0), getattr(protocol, "close_reason", "")
        status = self._status or (CLIENT_GONE if self._head else 0)
        ip = _client_ip(connection, protocol, self._head)
        seconds = monotonic() - self._opened
        self._access.add(
            Entry(
                connection.protocol, ip, connection.remote_address, self._head, status,
                connection.bytes_written, seconds, False, connection.bytes_read, code, reason,
            )
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        return {"opened": self._opened, "head": self._head, "status": self._status}

    def restore(self, state: dict[str, Any]) -> None:
        self._opened = state.get("opened", self._opened)
        self._head = state.get("head", b"")
        self._status = state.get("status", 0)


Observer = ExchangeRecorder | ConnectionRecorder


def _final_status(data: object) -> tuple[int, int]:
    # The status of the final answer that `data` begins with, and the bytes behind its head; (0, 0)
    # if it is none.
    if not isinstance(data, bytes | bytearray):  # the fault of a user's protocol
        return 0, 0
    while data[:7] == b"HTTP/1." and data[9:12].isdigit():
        end = data.find(b"\r\n\r\n") + 4
        status = int(data[9:12])
        if status >= 200 or status == SWITCHING:
            return status, max(0, len(data) - end)
        data = data[end:]  # 1xx announces another one (RFC 9110, 15.2)
    return 0, 0


def _client_ip(connection: Observed, protocol: object, head: bytes) -> str:
    # The address that trusted proxies name, if the head is whole and they name one.
    origin = getattr(protocol, "origin", None)
    if isinstance(origin, Origin) and origin.trust is not None and head.endswith(b"\r\n\r\n"):
        return Request(head, origin=origin).client_ip or connection.remote_ip
    return connection.remote_ip
