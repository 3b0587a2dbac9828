"""HTTP exchanges that take several steps: the half of HttpProtocol that plain requests and answers
do not need.

    take_body()                    the next piece of a body that is streamed
    encode_part(), end_answer()    an answer whose head `encode` returned
    upgrade()                      the answer that makes the connection a WebSocket

The driver of the protocol acts on the events (`gworker.connection.http_exchange`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from gworker.core import ReceiveBuffer
from gworker.core.status import CLOSE
from gworker.errors import ProtocolError
from gworker.http.date import date_field
from gworker.http.errors import BadRequest, ClientGone, RefusedRequest
from gworker.http.headers import HeaderSource
from gworker.http.request import Request
from gworker.http.response import Response
from gworker.http.streaming import StreamedBody
from gworker.protocols.base import EOF, MORE, NEED_DATA, PAUSED, HttpEvent
from gworker.protocols.http.body import ChunkedReader, LengthReader
from gworker.protocols.http.head import Head, HeadProtocol
from gworker.protocols.http.prepared import PreparedHead
from gworker.protocols.http.response import (
    CONTINUE,
    KEEP,
    KEEP_1_0,
    encode_start,
    has_content,
)

if TYPE_CHECKING:
    from gworker.http.session import Session
    from gworker.protocols.websocket.server import WebSocketProtocol

# Bytes of an unread body that are read and dropped after the answer. With more to come the
# connection ends.
MAX_DRAIN = 65536

# Where a connection stands.
#
# READING ── head complete ──► BODY ── body complete ──► ANSWERING ── final response ──► READING
#    │            └─── no body, or one that is streamed ─────▲  │ └── body unread ► DRAINING ─▲
#    └── EOF, error, close() ──► OVER ◄── last response ────────┘
Phase = Enum("Phase", ["READING", "BODY", "ANSWERING", "DRAINING", "OVER"])


@dataclass(slots=True, eq=False, repr=False)
class RequestStarted(HttpEvent):
    """A request whose body is to be read from the protocol's `take_body`, that has a form with
    files, or that may upgrade."""

    name = "on_message"
    request: Request


@dataclass(slots=True, eq=False, repr=False)
class ResponseStarted(HttpEvent):
    """An answer whose head was encoded: its parts go through `encode_part`, then `end_answer`."""

    name = "the stream of an answer"
    body: StreamedBody


@dataclass(slots=True, eq=False)
class HttpExchange:
    begun: bytes = b""  # the part of the body that came before it was known to be long
    expects: bool = False  # the client waits for 100 (Continue)
    offer: Request | None = None  # in progress, and may be upgraded
    outgoing: StreamedBody | None = None
    event: HttpEvent | None = None  # to be returned by `next_event`
    keep: bool = False  # the connection stays after the answer
    left: int | None = None  # bytes that the answer lacks; None: its length is not known
    seen: int = 0  # bytes that the peer had taken, when the connection was to close
    waiter: Callable[[], None] | None = None  # called when anything happens
    ended: Callable[[], None] | None = None  # called when the exchange is over
    session: Session | None = None  # that the handler has asked for

    def abort(self) -> None:
        if self.outgoing is not None and self.event is not None:
            self.outgoing.close()  # the driver has not got it
        if self.waiter is not None:
            self.waiter()
        if self.ended is not None:
            self.ended()


class StreamingExchanges(HeadProtocol):
    # It has the state of both halves.
    __slots__ = (
        "_body", "_head", "_is_fresh", "_options", "_phase", "_reader", "_saw_blank", "_scanned",
        "exchange", "origin", "raw_head",
    )  # fmt: skip

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self.origin = None
        self._options = {}
        self._scanned = 0
        self.raw_head = b""
        self._phase = Phase.READING
        self._is_fresh = True  # nothing has arrived yet
        self._saw_blank = False  # the empty line that may come before a request
        self._head: Head | None = None  # of the exchange in progress
        # A body that is not complete: either its reader, or what has come of one whose length is
        # known and that is handed out whole.
        self._reader: LengthReader | ChunkedReader | None = None
        self._body: ReceiveBuffer | None = None
        self.exchange: HttpExchange | None = None

    def __getstate__(self) -> Any:
        # What pickle(3) copies: not what each process sets anew.
        state: Any = super().__getstate__()
        return state[0], {**state[1], "_options": {}, "origin": None}

    def _end(self) -> None:
        self._keep_partial_head()
        self._phase = Phase.OVER
        exchange, self.exchange = self.exchange, None
        self._head = self._reader = self._body = None
        self._consume(len(self._buffer))
        self._ended = True
        self.has_output = False
        if exchange is not None:
            exchange.abort()

    def _end_exchange(self, keep: bool) -> None:
        self._head = None
        self.raw_head = b""
        exchange, self.exchange = self.exchange, None
        if not keep:
            self._end()
        else:
            self._phase = Phase.READING if self._reader is None else Phase.DRAINING
        if exchange is not None and exchange.ended is not None:
            exchange.ended()

    def _standing(self, head: Head, keep: bool, has_date: bool = False) -> bytes:
        connection = (KEEP_1_0 if head.old else KEEP) if keep else CLOSE
        exchange = self.exchange
        if exchange is not None and exchange.session is not None:
            session, exchange.session = exchange.session, None  # once: it may raise
            connection += session.fields()
        return connection if has_date else date_field() + connection

    def take_unparsed(self) -> bytes:
        begun = b"" if self.exchange is None else self.exchange.begun
        return begun + super().take_unparsed()

    def keep_session(self, head: bytes, session: Session) -> None:
        """Give the client `session` with the answer to the request that has this head, if that is
        still to come."""
        if self._phase is Phase.ANSWERING and not self.is_sending and head == self.raw_head:
            self.exchange = self.exchange or HttpExchange()
            self.exchange.session = session

    # --- a body in pieces

    def take_body(self) -> bytes | None:
        """Return the bytes of the body that came since the last call; b"": none yet, None: the body
        is complete.

        Raises BadRequest for a malformed body, ClientGone for one that is cut off.
        """
        reader, exchange = self._reader, self.exchange
        if self._phase is not Phase.ANSWERING or exchange is None:
            raise ClientGone(
                "the request was answered, or its connection has ended: nothing is left to read"
            )
        if exchange.begun:
            begun, exchange.begun = exchange.begun, b""
            return begun
        if reader is None:
            return None
        # A chunked body has few lines without content.
        while self._buffer and not reader.body and not reader.is_complete:
            self._read_on(reader)
        if reader.body:
            return reader.take()
        if self._reader is None:
            return None
        if self._ended:
            error = RefusedRequest("the request ended within its body")
            raise ClientGone(str(error), error.reply)
        if exchange.expects and exchange.outgoing is None:
            exchange.expects = False
            self.has_output = True
        return b""

    def _read_on(self, reader: LengthReader | ChunkedReader) -> None:
        try:
            stop = reader.read(self._buffer, self._pos)
        except ProtocolError as error:
            self._consume(len(self._buffer))
            self._ended = True
            raise BadRequest(str(error)) from error
        self._consume(stop)
        if reader.is_complete:
            self._reader = None

    def _may_drain(self) -> bool:
        # True if the unread rest of the body is short enough to be read and dropped.
        reader = self._reader
        # A client that got no 100 may send the body or not (RFC 9110 section 10.1.1).
        may_come = not self._ended and (self.exchange is None or not self.exchange.expects)
        return reader is None or (
            may_come and isinstance(reader, LengthReader) and reader.left <= MAX_DRAIN
        )

    def _drain(self) -> object:
        reader = self._reader
        if reader is not None:
            self._read_on(reader)
            reader.body.clear()
        if self._reader is None:
            self._phase = Phase.READING
            return self.next_event()
        if self._buffer:
            return MORE
        if self._ended:
            self._end()
            return EOF
        return NEED_DATA

    # --- an answer in pieces

    def _begin_answer(
        self, response: Response, body: StreamedBody, head: Head, keep: bool
    ) -> bytes:
        if head.method == b"HEAD" or not has_content(response.status):
            body.close()
            keep = keep and self._may_drain()
            data = encode_start(
                response, self._standing(head, keep), body.length, chunked=not head.old
            )
            self._end_exchange(keep)
            return data
        keep, asks = self._begin_exchange(response.status, body.length, head, keep)
        data = encode_start(response, self._standing(head, keep), body.length, chunked=not head.old)
        exchange = self.exchange
        assert exchange is not None
        exchange.outgoing = body
        exchange.event = ResponseStarted(body)
        return CONTINUE + data if asks else data

    def _begin_pieces(self, begun: PreparedHead, head: Head, keep: bool) -> bytes:
        # As `_begin_answer`, for an answer whose pieces come without being asked for.
        keep, asks = self._begin_exchange(begun.status, begun.length, head, keep)
        standing = self._standing(head, keep, begun.has_date)
        data = begun.encode(begun.length, not head.old, standing)
        assert self.exchange is not None
        self.exchange.outgoing = StreamedBody(begun.length)
        return CONTINUE + data if asks else data

    def _begin_exchange(
        self, status: int, length: int | None, head: Head, keep: bool
    ) -> tuple[bool, bool]:
        # Whether the connection stays after the answer, and whether 100 (Continue) goes before it.
        exchange = self.exchange or HttpExchange()
        asks = exchange.expects and status < 400
        # It is the last answer if only the end of the connection shows its end; if the client is
        # refused, which may send the body or not (RFC 9110 section 10.1.1); and after a body whose
        # end could be far.
        keep = (
            keep
            and (length is not None or not head.old)
            and asks == exchange.expects
            and not isinstance(self._reader, ChunkedReader)
        )
        if asks:  # the parts may be made of the body, and 100 cannot come between them
            exchange.expects = False
        exchange.keep = keep
        exchange.left = length
        self.exchange = exchange
        return keep, asks

    def encode_part(self, data: bytes) -> bytes:
        """Return one piece of the answer that was begun. ValueError beyond its Content-Length."""
        head, exchange = self._head, self.exchange
        if head is None or exchange is None or exchange.outgoing is None:
            raise RuntimeError("no answer is being sent")
        if exchange.left is not None:
            if len(data) > exchange.left:
                raise ValueError("the answer is longer than it said")
            exchange.left -= len(data)
            return data
        return data if head.old else b"%x\r\n%b\r\n" % (len(data), data)

    def end_answer(self) -> bytes:
        """Return the end of the answer. ValueError if it is shorter than its Content-Length."""
        head, exchange = self._head, self.exchange
        if head is None or exchange is None or exchange.outgoing is None:
            raise RuntimeError("no answer is being sent")
        if exchange.left:
            raise ValueError(f"the answer is {exchange.left} bytes shorter than it said")
        last = b"" if exchange.left is not None or head.old else b"0\r\n\r\n"
        self._end_exchange(exchange.keep and not self.closing and self._may_drain())
        return last

    @property
    def is_sending(self) -> bool:
        return self.exchange is not None and self.exchange.outgoing is not None

    @property
    def delimits(self) -> bool:
        # True if the client can see that the answer in progress was cut off. Else the end of the
        # connection is the end of the answer.
        head, exchange = self._head, self.exchange
        return head is None or exchange is None or exchange.left is not None or not head.old

    # --- another protocol

    def upgrade(self, request: Request, headers: HeaderSource) -> WebSocketProtocol:
        """Answer `request`, the one in progress, by a WebSocket, which goes on from here and has
        the 101 to send; nothing follows here. Raises as `offer`."""
        socket = self.offer(request)
        socket.accept_handshake(headers)
        self.leave_to(socket)
        return socket

    def offer(self, request: Request) -> WebSocketProtocol:
        """A WebSocket with the handshake of `request`, the one in progress, to be decided.
        BadRequest if that is none."""
        # A server whose requests never upgrade loads no WebSocket.
        from gworker.protocols.websocket.server import WebSocketProtocol

        offer = None if self.exchange is None else self.exchange.offer
        if self._phase is not Phase.ANSWERING or offer is not request or self.is_sending:
            raise RuntimeError("the request was answered already")
        socket = WebSocketProtocol(self.max_package_size)
        socket.configure(self._options)
        socket.receive_data(self.raw_head)
        socket.next_event()
        return socket

    def leave_to(self, socket: WebSocketProtocol) -> None:
        """`socket` goes on from here, and gets what came behind the handshake."""
        socket.closing = self.closing
        leftover, ended = bytes(self._buffer[self._pos :]), self._ended
        self._end()
        if leftover:
            socket.receive_data(leftover)
        if ended:
            socket.receive_data(b"")

    def _exchange_event(self, exchange: HttpExchange) -> object:
        event, exchange.event = exchange.event, None
        if event is not None:
            return event
        self.notify_waiter()
        return PAUSED

    def notify_waiter(self) -> None:
        exchange = self.exchange
        if exchange is not None and exchange.waiter is not None:
            exchange.waiter()
