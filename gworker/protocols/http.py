"""http: HTTP/1.0 and 1.1, the server's side (RFC 9110, RFC 9112).

One exchange at a time. After a Request was returned the protocol is PAUSED until `encode` was given
its final response; pipelined requests wait in the buffer. An exchange that must be the last one says
so in its response, and EOF follows.

    READING ── head complete ──► BODY ── body complete ──► ANSWERING ── final response ──► READING
       │            └──────────── no body ─────────────────────▲  │
       └── EOF, error, close() ──► OVER ◄── last response ────────┘
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from gworker.errors import ProtocolError
from gworker.http.request import Request
from gworker.http.response import Response
from gworker.protocols.base import EOF, NEED_DATA, PAUSED
from gworker.protocols.http_body import ChunkedReader, LengthReader
from gworker.protocols.http_head import Head, parse_head
from gworker.protocols.http_reader import HeadProtocol
from gworker.protocols.http_response import CLOSE, CONTINUE, FAILED, KEEP, KEEP_1_0, PLAIN, encode_response, refusal

REQUEST_TIMEOUT = refusal(408, "the request did not arrive in time").reply
OUR_FAULT = 1011


class Phase(Enum):
    READING = "reading"
    BODY = "body"
    ANSWERING = "answering"
    OVER = "over"


_READING, _BODY, _ANSWERING, _OVER = Phase


class HttpProtocol(HeadProtocol):
    """Messages are `Request`; sends `Response`, str (text/html) and bytes-like (application/octet-stream).

    closing: set it, and the next response is the last one and says so; an idle connection is the
    driver's to close.
    """

    __slots__ = ("_head", "_is_fresh", "_phase", "_raw", "_reader", "_saw_blank")

    name = "http"
    keeps_alive = True

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self._phase = _READING
        self._head: Head | None = None  # of the exchange in progress
        self._raw = b""
        self._reader: LengthReader | ChunkedReader | None = None
        self._saw_blank = False
        self._is_fresh = True  # nothing has arrived yet

    @property
    def idle(self) -> bool:
        """Whether no request is in progress and no byte of one is here."""
        return self._phase is _READING and not self._buffer

    @property
    def is_resting(self) -> bool:
        return self.idle and not self._is_fresh

    @property
    def is_answering(self) -> bool:
        return self._phase is _ANSWERING

    def next_event(self) -> Any:
        phase = self._phase
        if phase is _READING and not self._buffer:
            return EOF if self._ended else NEED_DATA
        if phase is _ANSWERING:
            return PAUSED
        try:
            return self._read_head() if phase is _READING else self._read_body()
        except ProtocolError:
            self._end()
            raise

    def _read_head(self) -> Any:
        self._is_fresh = False
        if self._buffer[self._pos] < 0x20 and not self._skip_blank():
            return NEED_DATA
        raw = self._next_head()
        if raw is None:
            return NEED_DATA
        self._saw_blank = False
        self._head = head = parse_head(raw, self.max_package_size)
        if head.chunked or head.length:
            return self._begin_body(raw, head)
        self._phase = _ANSWERING
        return Request(raw, b"", head.keep_alive, self.origin)

    def _skip_blank(self) -> bool:
        """Old clients send an empty line before a request; one is skipped (RFC 9112 section 2.2), not two."""
        blank = bytes(self._buffer[self._pos : self._pos + 2])
        if self._saw_blank or not b"\r\n".startswith(blank) or (self._ended and blank == b"\r"):
            raise refusal(400, "malformed request line")
        if blank == b"\r":
            return False
        self._saw_blank = True
        self._consume(self._pos + 2)
        return bool(self._buffer)

    def _begin_body(self, raw: bytes, head: Head) -> Any:
        self._raw = raw
        self._reader = ChunkedReader(self.max_package_size) if head.chunked else LengthReader(head.length)
        self._phase = _BODY
        # RFC 9110 section 10.1.1: no 100 (Continue) if some of the content is here already.
        self.has_output = head.expects_continue and not self._buffer
        return self._read_body()

    def _read_body(self) -> Any:
        reader, head = self._reader, self._head
        if reader is None or head is None:  # the phase is OVER
            return EOF
        stop = reader.read(self._buffer, self._pos)
        self._consume(len(self._buffer) if stop is None else stop)
        if stop is None:
            if self._ended:
                raise refusal(400, "the request ended within its body")
            return NEED_DATA
        raw, self._raw, self._reader = self._raw, b"", None
        self._phase = _ANSWERING
        return Request(raw, bytes(reader.body), head.keep_alive, self.origin)

    def encode(self, message: Any) -> bytes:
        head = self._head
        if self._phase is not _ANSWERING or head is None:
            raise RuntimeError("there is no request to answer: none has come, or it was answered already")
        keep = head.keep_alive and not self.closing
        if type(message) is Response:
            keep = keep and not _wants_close(message)
            interim = 100 <= message.status <= 199
        else:
            interim = False
        if interim:
            return self._encode_interim(message, head)
        connection = (KEEP_1_0 if head.old else KEEP) if keep else CLOSE
        data = encode_response(message, connection, head.method == b"HEAD")
        self._head = None
        if keep:
            self._phase = _READING
        else:
            self._end()
        return data

    def _encode_interim(self, response: Response, head: Head) -> bytes:
        """1xx announces the final response and does not count as one; HTTP/1.0 has none (RFC 9110 15.2)."""
        if response.status == 101:
            raise ValueError("the http protocol does not switch to another one")
        return b"" if head.old else encode_response(response, KEEP)

    def _end(self) -> None:
        """The one way into OVER."""
        self._phase = _OVER
        self._head = self._reader = None
        self._raw = self._buffer = b""
        self._pos = 0
        self._ended = True
        self.has_output = False

    def data_to_send(self) -> bytes:
        if not self.has_output:
            return b""
        self.has_output = False
        return CONTINUE

    def close(self, code: int = 1000, reason: str = "") -> bytes:
        """End it. A request that waits for an answer gets a 500 if `code` says that our side failed."""
        data = b""
        if code == OUR_FAULT and self._phase is _ANSWERING and self._head is not None:
            data = encode_response(Response(FAILED, 500, content_type=PLAIN), CLOSE, self._head.method == b"HEAD")
        self._end()
        return data

    def waiting_for(self) -> Literal["", "handshake", "header", "body"]:
        """Return "header" on a fresh connection too: one that says nothing is no keep-alive."""
        if self._phase is _BODY:
            return "body"
        if self._phase is _READING and (self._buffer or self._is_fresh):
            return "header"
        return ""

    def timed_out(self) -> bytes:
        has_begun = self._phase is _BODY or (self._phase is _READING and self._buffer)
        self._end()
        return REQUEST_TIMEOUT if has_begun else b""


def _wants_close(response: Response) -> bool:
    options = response.headers.get("Connection", "")
    return "close" in options.lower().replace(" ", "").split(",")
