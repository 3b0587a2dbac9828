"""The exchanges of a connection: what the access log and the application's observers are told.
There is none of this without --access-log or `Worker.observe`.

A connection has one observer, which is told what is read, decoded and sent, and of the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Any

from gworker.app.observers import ObservedRequest
from gworker.connection.observing import Observers
from gworker.connection.registry import Registered
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


@dataclass(slots=True)
class Exchange:
    """What a line shows: a request and what became of it, or all of a connection."""

    head: bytes
    began: float
    status: int = 0
    size: int = 0  # bytes of the answer's body
    end: int = 0  # where its answer ends among all bytes sent
    is_streamed: bool = False  # its answer is sent in pieces, and has not ended
    answer: bytes = b""  # its head, if the access log shows fields of it
    told: ObservedRequest | None = None  # what observers of the application know of it


class Observer:
    """A line for each exchange of HTTP, when the last byte of its answer was given to the kernel.

    All else has one line, when the connection has closed; so has what HTTP was upgraded to.
    """

    __slots__ = (
        "_access", "_answered", "_began", "_current", "_observers", "_pending", "_protocol",
        "_whole", "_writing",
    )  # fmt: skip

    def __init__(
        self, access: AccessLog | None, protocol: object, observers: Observers | None = None
    ) -> None:
        self._access = access
        self._observers = observers
        self._protocol = protocol
        self._began = 0.0  # when the first byte of the next request has come
        self._current: Exchange | None = None
        self._answered: Exchange | None = None  # by what is being written
        self._writing = 0
        self._pending: list[Exchange] = []  # answered, and not sent yet; MAX_PENDING at most
        # The one line of a connection without exchanges.
        self._whole = None if isinstance(protocol, HttpProtocol) else Exchange(b"", monotonic())

    @property
    def has_room(self) -> bool:
        """False: no further request may be decoded before answers are sent."""
        return len(self._pending) < MAX_PENDING

    def received(self) -> None:
        if not self._began:
            self._began = monotonic()

    def parsed(self) -> None:
        protocol, whole = self._protocol, self._whole
        if whole is not None:
            if not whole.head and isinstance(protocol, HeadProtocol):
                whole.head = protocol.raw_head
        elif isinstance(protocol, HttpProtocol) and self._current is None and protocol.is_answering:
            self._current = self._begin(protocol.raw_head)

    def handling(self, connection: Registered, message: object) -> None:
        """`message` is about to be handled, in this greenlet."""
        exchange, observers = self._current, self._observers
        if exchange is not None and observers is not None and isinstance(message, Request):
            exchange.told = observers.begin(connection, message)

    def _begin(self, head: bytes) -> Exchange:
        began, self._began = self._began, 0.0
        return Exchange(head, began or monotonic())

    def sending(self, data: bytes, more: int = 0) -> None:
        """`data`, and `more` bytes after it, are about to be written."""
        protocol, whole, current = self._protocol, self._whole, self._current
        if whole is not None:
            if not whole.status and isinstance(protocol, HeadProtocol):
                whole.status = _final_status(data)[0]
            return
        if not isinstance(protocol, HttpProtocol):
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
                if self._access is not None and self._access.wants_answer:
                    current.answer = bytes(data[: len(data) - size])
        current.is_streamed = protocol.is_sending
        is_open = protocol.is_answering
        self._current, self._answered = (current, None) if is_open else (None, current)

    def sent(self, connection: Registered) -> None:
        """They were written, or wait to be."""
        exchange = self._answered or self._current
        if exchange is not None:
            exchange.size += self._writing
        self._writing = 0
        answered, self._answered = self._answered, None
        if answered is None:
            return
        if answered.status == SWITCHING:
            self._whole = answered
        elif not self._pending and not connection.send_queue:
            self._record(connection, answered, answered.size)
        else:
            answered.end = connection.bytes_written + connection.send_queue
            self._pending.append(answered)

    def progressed(self, connection: Registered) -> None:
        pending = self._pending
        while pending and pending[0].end <= connection.bytes_written:
            exchange = pending.pop(0)
            self._record(connection, exchange, exchange.size)

    def switched(self, protocol: object) -> None:
        self._protocol = protocol
        if self._current is not None:
            self._whole, self._current = self._current, None
            self._whole.status = SWITCHING

    def detached(self) -> None:
        """What is sent from now on is told by `sending`, and its line shows the first answer."""
        if self._current is not None:
            self._whole, self._current = self._current, None

    def closed(self, connection: Registered) -> None:
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
        if self._whole is not None:
            self.parsed()  # a head that was refused
            protocol, whole, self._whole = self._protocol, self._whole, None
            code, reason = getattr(protocol, "farewell", (0, ""))
            if not code:
                code = getattr(protocol, "close_code", 0)
                reason = getattr(protocol, "close_reason", "")
            whole.status = whole.status or (CLIENT_GONE if whole.head else 0)
            end = connection.bytes_read, code, reason
            self._record(connection, whole, connection.bytes_written, False, *end)

    def state(self) -> Any:
        for exchange in (*self._pending, self._whole):
            if exchange is not None:  # its answer goes on in another process
                self._tell(exchange, exchange.size, monotonic() - exchange.began, False)
        return self._began, self._pending, self._whole

    def restore(self, state: Any) -> None:
        self._began, self._pending, self._whole = state

    def _record(
        self,
        connection: Registered,
        exchange: Exchange,
        sent: int,
        aborted: bool = False,
        *end: Any,
    ) -> None:
        # end: bytes that were received, and the close code and its reason, of a whole connection.
        seconds = monotonic() - exchange.began
        self._tell(exchange, sent, seconds, aborted)
        if self._access is None:
            return
        ip = _client_ip(connection, exchange.head)
        entry = Entry(
            connection.protocol, ip, connection.remote_address, exchange.head, exchange.status,
            sent, seconds, aborted, *end,
        )  # fmt: skip
        entry.answer = exchange.answer
        self._access.add(entry)

    def _tell(self, exchange: Exchange, sent: int, seconds: float, aborted: bool) -> None:
        told, exchange.told = exchange.told, None
        if told is not None and self._observers is not None:
            told.status, told.bytes_sent = exchange.status, sent
            told.seconds, told.aborted = seconds, aborted
            self._observers.end(told)


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


def _client_ip(connection: Registered, head: bytes) -> str:
    # The address that trusted proxies name, if the head is whole and they name one.
    origin = connection.origin
    if isinstance(origin, Origin) and origin.trust is not None and head.endswith(b"\r\n\r\n"):
        return Request(head, origin=origin).client_ip or connection.remote_ip
    return connection.remote_ip
