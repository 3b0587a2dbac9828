"""http: HTTP/1.0 and 1.1, the server's side (RFC 9110, RFC 9112).

One exchange at a time. After a Request was returned the protocol is PAUSED until `encode` was given
its final response; pipelined requests wait in the buffer. An exchange that must be the last one
says so in its response, and EOF follows.

An exchange that takes several steps (`streaming`) stays in ANSWERING until all of its answer is
sent.
"""

from __future__ import annotations

import sys
from typing import Literal

from gworker.core import (
    PreparedAnswer,
    ReceiveBuffer,
    encode_simple,
    parse_request,
    register_framing,
)
from gworker.errors import ProtocolError
from gworker.http.body import StreamedRequest
from gworker.http.date import date_field
from gworker.http.errors import RefusedRequest, without_content
from gworker.http.headers import tokens
from gworker.http.request import OfferingRequest, Request
from gworker.http.response import Response
from gworker.http.streaming import StreamedBody
from gworker.protocols.base import EOF, INTERNAL_ERROR, LARGE, MORE, NEED_DATA, PAUSED
from gworker.protocols.http.body import ChunkedReader, LengthReader
from gworker.protocols.http.head import SIMPLE_HEADS, Head, parse_head
from gworker.protocols.http.prepared import PreparedHead
from gworker.protocols.http.response import (
    CONTINUE,
    FAILED,
    PLAIN,
    encode_response,
    has_content,
)
from gworker.protocols.http.streaming import (
    HttpExchange,
    Phase,
    RequestStarted,
    StreamingExchanges,
)

_READING, _BODY, _ANSWERING, _DRAINING, _OVER = Phase


class HttpProtocol(StreamingExchanges):
    """Messages are `Request`. It sends `Response`, str (text/html), bytes-like
    (application/octet-stream), dict and list (application/json).

    closing: set it, and the next response is the last one and says so; an idle connection is the
    driver's to close.
    """

    __slots__ = ()

    name = "http"
    keeps_alive = True
    accepts_unsolicited = False

    @property
    def has_pending(self) -> bool:
        return self._phase is not _READING or bool(self._buffer)

    @property
    def is_answering(self) -> bool:
        return self._phase is _ANSWERING

    @property
    def awaits_answer(self) -> bool:
        return self._phase is _ANSWERING and not self.is_sending

    def next_event(self) -> object:
        phase, buffer = self._phase, self._buffer
        if phase is _READING and not buffer:
            return EOF if self._ended else NEED_DATA
        if phase is _ANSWERING:
            return PAUSED if self.exchange is None else self._exchange_event(self.exchange)
        try:
            if phase is not _READING:
                return self._drain() if phase is _DRAINING else self._read_body()
            self._is_fresh = False
            above: int | None = self._options.get("stream_above")
            most = self.max_package_size
            simple = parse_request(
                Request, buffer, self._pos, self.origin, most if above is None else min(above, most)
            )
            if simple is not None:
                request, method, self.raw_head, stop = simple
                self._head = SIMPLE_HEADS[method]
                self._saw_blank = False
                self._phase = _ANSWERING
                self._consume(stop)
                return request
            if (raw := self._cut_head()) is None:
                return NEED_DATA
            self._saw_blank = False
            self.raw_head = raw
            self._head = head = parse_head(raw)
            if not head.is_plain:
                return self._begin_special(raw, head)
            self._phase = _ANSWERING
            return Request(raw, b"", head.keep_alive, self.origin)
        except ProtocolError as error:
            error.reply = self._reply_of(error)
            self._end()
            raise

    def _cut_head(self) -> bytes | None:
        if self._buffer[self._pos] < 0x20 and not self._skip_blank():
            return None
        return self._next_head()

    def _skip_blank(self) -> bool:
        # Skip the one empty line that old clients send before a request (RFC 9112 section 2.2).
        blank = bytes(self._buffer[self._pos : self._pos + 2])
        if self._saw_blank or not b"\r\n".startswith(blank) or (self._ended and blank == b"\r"):
            raise RefusedRequest("malformed request line")
        if blank == b"\r":
            return False
        self._saw_blank = True
        self._consume(self._pos + 2)
        return bool(self._buffer)

    def _begin_special(self, raw: bytes, head: Head) -> object:
        # The event of a request with a body, or with an offer to switch protocols.
        if not (head.chunked or head.length):
            self._phase = _ANSWERING
            request = OfferingRequest(raw, head.keep_alive, self.origin)
            self.exchange = HttpExchange(offer=request)
            return RequestStarted(request)
        above: int | None = self._options.get("stream_above")
        # One that takes streams decides before a client that waits for 100 sends its body.
        if above is not None and (head.length > above or (head.expects_continue and head.length)):
            self._reader = LengthReader(head.length)
            return self._begin_stream(raw, head)
        if head.chunked:
            self._reader = ChunkedReader(self.max_package_size if above is None else sys.maxsize)
            if above is not None and head.expects_continue:
                return self._begin_stream(raw, head)
        elif head.length > self.max_package_size:
            raise RefusedRequest(f"body longer than {self.max_package_size} bytes", 413)
        else:
            self._body = ReceiveBuffer(head.length)
        self._phase = _BODY
        # RFC 9110 section 10.1.1: no 100 (Continue) if some of the content is here already.
        self.has_output = head.expects_continue and not self._buffer
        return self._read_body()

    def _begin_stream(self, raw: bytes, head: Head, begun: bytes = b"") -> RequestStarted:
        self._phase = _ANSWERING
        expects = head.expects_continue and not self._buffer and not begun
        self.exchange = HttpExchange(begun, expects)
        return RequestStarted(
            StreamedRequest(raw, head.keep_alive, self.max_package_size, self.origin)
        )

    @property
    def streams_stalled(self) -> bool:
        return self._body is not None and self._options.get("streams_stalled", False)

    def stream_rest(self) -> RequestStarted | None:
        body, head = self._body, self._head
        if body is None or head is None or not self.streams_stalled:
            return None
        self._body = None
        self._reader = LengthReader(body.left)
        return self._begin_stream(self.raw_head, head, body.since(0))

    def _read_body(self) -> object:
        if self._body is not None:
            return self._read_whole(self._body)
        reader, head = self._reader, self._head
        if reader is None or head is None:  # the phase is OVER
            return EOF
        self._consume(reader.read(self._buffer, self._pos))
        above = self._options.get("stream_above")
        if above is not None and len(reader.body) > min(above, self.max_package_size):
            self._reader = None if reader.is_complete else reader
            return self._begin_stream(self.raw_head, head, reader.take())
        if reader.is_complete:
            self._reader = None
            return self._request_with(reader.take())
        return MORE if self._buffer else self._need_body()

    def _read_whole(self, body: ReceiveBuffer) -> object:
        self._move_into(body)
        if body.left:
            return self._need_body()
        self._body = None
        return self._request_with(body.take())

    def _need_body(self) -> object:
        if self._ended:
            raise RefusedRequest("the request ended within its body")
        return NEED_DATA

    def _request_with(self, body: bytes) -> object:
        head = self._head
        assert head is not None  # of the request in progress
        self._phase = _ANSWERING
        request = Request(self.raw_head, body, head.keep_alive, self.origin)
        if not head.is_multipart:
            return request
        self.exchange = HttpExchange()  # its files are closed when it is answered
        return RequestStarted(request)

    @property
    def receive_buffer(self) -> ReceiveBuffer | None:
        return self._body

    def encode(self, message: object) -> bytes:
        head = self._head
        if self._phase is not _ANSWERING or head is None:
            raise RuntimeError(
                "there is no request to answer: none has come, or it was answered already"
            )
        # Most answers are encoded here.
        head_only = head.method == b"HEAD"
        if self.exchange is None and head.keep_alive and not self.closing and not head.old:
            data = encode_simple(message, Response, date_field(), head_only)
            if data is not None:
                self._head = None
                self.raw_head = b""
                self._phase = _READING
                return data
        return self._encode_special(message, head, head_only)

    def _encode_special(self, message: object, head: Head, head_only: bool) -> bytes:
        # What `encode` returns for another answer than a short one within a plain exchange.
        # head_only: without its content, which counts as sent.
        keep = head.keep_alive and not self.closing
        if self.is_sending:
            raise RuntimeError("the answer is still being sent")
        if isinstance(message, PreparedAnswer):
            return self._encode_prepared(message, head, head_only)
        if isinstance(message, Response):
            if isinstance(message.body, StreamedBody):
                message.body.resolve(Request(self.raw_head), message)
            fields = message.headers
            if "Connection" in fields and "close" in tokens(fields, "Connection"):
                keep = False
            if isinstance(message.body, StreamedBody):
                return self._begin_answer(message, message.body, head, keep)
            if message.status == 101:
                raise ValueError(
                    "request.upgrade() switches to another protocol, a Response does not"
                )
            if 100 <= message.status <= 199:
                # It announces the final response and does not count as one; HTTP/1.0 has none (RFC
                # 9110 section 15.2).
                return b"" if head.old else encode_response(message, b"")
        keep = keep and self._may_drain()
        data = encode_response(message, self._standing(head, keep), head_only)
        self._end_exchange(keep)
        return data

    def _encode_prepared(self, answer: PreparedAnswer, head: Head, head_only: bool) -> bytes:
        begun = PreparedHead(answer)
        if begun.status < 200:
            raise ValueError(f"{answer.status} is no final answer")
        keep = head.keep_alive and not self.closing and not begun.closes
        is_sent = begun.has_content and head.method != b"HEAD"
        body, length = answer.body, begun.length
        if body is None and is_sent:
            return self._begin_pieces(begun, head, keep)
        content: bytes = body or b""
        if is_sent:
            if length is None:
                length = len(content)
            keep = keep and length <= len(content)
            content = content[:length]
        elif length is None and content and begun.has_content:
            length = len(content)
        keep = keep and self._may_drain()
        data = begun.encode(length, False, self._standing(head, keep, begun.has_date))
        self._end_exchange(keep)
        return data + content if is_sent and not head_only else data

    def split(self, message: object) -> tuple[bytes, bytes] | None:
        head = self._head
        body = message.body if isinstance(message, Response | PreparedAnswer) else message
        if type(body) is not bytes or len(body) < LARGE:
            return None
        if head is None or head.method == b"HEAD" or not self.awaits_answer:
            return None
        if isinstance(message, PreparedAnswer):
            begun = PreparedHead(message)
            if not begun.has_content or begun.length not in (None, len(body)):
                return None
        elif isinstance(message, Response) and not has_content(message.status):
            return None
        return self._encode_special(message, head, head_only=True), body

    def data_to_send(self) -> bytes:
        if not self.has_output:
            return b""
        self.has_output = False
        return CONTINUE

    def close(self, code: int = 1000, reason: str = "") -> bytes:
        # End it. A request that waits for an answer gets a 500 if `code` says that our side failed.
        data = b""
        head = self._head
        if code == INTERNAL_ERROR and head is not None and self.awaits_answer:
            response = Response(FAILED, 500, content_type=PLAIN)
            data = encode_response(response, self._standing(head, False), head.method == b"HEAD")
        self._end()
        return data

    def refuse(self, error: ProtocolError) -> bytes:
        owed = self._phase is _ANSWERING and not self.is_sending
        reply = self._reply_of(error) if owed else b""
        self._end()
        return reply

    def waiting_for(self) -> Literal["", "handshake", "header", "body"]:
        # "header" on a fresh connection too: it has had no request after which it could rest.
        if self._phase is _BODY or self._phase is _DRAINING:
            return "body"
        if self._phase is _READING and (self._buffer or self._is_fresh):
            return "header"
        return ""

    def timed_out(self) -> bytes:
        has_begun = self._phase is _BODY or (self._phase is _READING and self._buffer)
        late = RefusedRequest("the request did not arrive in time", 408)
        reply = self._reply_of(late) if has_begun else b""
        self._end()
        return reply

    def _reply_of(self, error: ProtocolError) -> bytes:
        # The answer to the request in progress, of which only the method may be here.
        begin = self.raw_head or bytes(self._buffer[self._pos : self._pos + 5])
        return without_content(error.reply) if begin.startswith(b"HEAD ") else error.reply


register_framing(
    "http",
    HttpProtocol,
    reading=_READING,
    answering=_ANSWERING,
    heads=SIMPLE_HEADS,
    request=Request,
    response=Response,
    date_field=date_field,
)
