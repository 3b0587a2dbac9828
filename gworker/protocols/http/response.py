"""HTTP responses as bytes: the handler's answers, and our own refusals.

Every response says how long it is (RFC 9112 section 6.3), but one that is streamed to HTTP/1.0
without a length, which the end of the connection ends. What of a handler's framing fields is kept
stands in `gworker.http.response`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from gworker.errors import ProtocolError
from gworker.http.date import date_field
from gworker.http.errors import BadRequest
from gworker.http.response import Response
from gworker.protocols.buffered import to_bytes, wrong_type

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

KEEP = b""
KEEP_1_0 = b"Connection: keep-alive\r\n"
CLOSE = b"Connection: close\r\n"
"""The Connection field of a response: staying is the default of HTTP/1.1, and has to be said in
1.0."""

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus} | {
    413: b"Content Too Large",
    414: b"URI Too Long",
    416: b"Range Not Satisfiable",
    422: b"Unprocessable Content",
}
"""As RFC 9110 has them: Python before 3.13 has those of older ones."""
PLAIN = "text/plain; charset=utf-8"
FAILED = "500 Internal Server Error\n"
"""The body of the answer to a request whose handler raised."""
_HTML = b"Content-Type: text/html; charset=utf-8\r\n"
_OCTETS = b"Content-Type: application/octet-stream\r\n"
_START_HTML = b"HTTP/1.1 200 OK\r\n" + _HTML + b"Content-Length: %d\r\n%b\r\n"
_START_OCTETS = b"HTTP/1.1 200 OK\r\n" + _OCTETS + b"Content-Length: %d\r\n%b\r\n"
_FRAMING = frozenset({"connection", "content-length", "date", "transfer-encoding"})


def status_line(status: int) -> bytes:
    """Return the status line; its version is ours, not the peer's (RFC 9110 section 6.2)."""
    if not isinstance(status, int) or not 100 <= status <= 599:
        raise ValueError(f"a status is an int from 100 to 599, not {status!r}")
    return b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b""))


def refusal(status: int, text: str, fields: bytes = b"") -> BadRequest:
    """Return the error for a request that gets `status`; its reply explains in one line and
    closes."""
    return BadRequest(text, reply=refusal_reply(status, text, fields))


def refusal_reply(status: int, text: str, fields: bytes = b"") -> bytes:
    """The bytes of a refusal."""
    line = status_line(status)
    body = b"%b: %b\n" % (line[9:].strip(), text.encode("ascii", "backslashreplace"))
    head = b"%bContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n%b\r\n"
    return head % (line, len(body), fields + date_field() + CLOSE) + body


def reply_to(error: ProtocolError, head_only: bool) -> bytes:
    """The answer to a request that is wrong, as far as it is known what: `head_only` if that was a
    HEAD."""
    reply = error.reply
    if not reply and isinstance(error, BadRequest):
        reply = refusal_reply(error.status, str(error))
    return without_content(reply) if head_only else reply


def without_content(reply: bytes) -> bytes:
    """`reply` as HEAD gets it (RFC 9110 section 9.3.2)."""
    return reply[: reply.find(b"\r\n\r\n") + 4] if reply else reply


def encode_response(message: Any, connection: bytes, head_only: bool = False) -> bytes:
    """Return the bytes of an answer to a request; `head_only` if that was a HEAD.

    `connection` are the fields that the protocol adds: one of KEEP, KEEP_1_0, CLOSE, and perhaps
    Date.
    """
    if isinstance(message, str):
        body = message.encode()
        start = _START_HTML
    elif isinstance(message, (bytes, bytearray, memoryview)):
        body = bytes(message)
        start = _START_OCTETS
    elif isinstance(message, Response):
        return _encode_full(message, connection, head_only)
    elif isinstance(message, (dict, list)):
        return _encode_full(Response.json(message), connection, head_only)
    else:
        raise wrong_type(
            message, "http", "Response, str, bytes, bytearray, memoryview, dict or list"
        )
    head = start % (len(body), connection)
    return head if head_only else head + body


def _encode_full(response: Response, connection: bytes, head_only: bool) -> bytes:
    body = to_bytes(response.body, "http")
    status = response.status
    headers = response.headers
    head = status_line(status) + headers.encode(without=_FRAMING)
    if body and "Content-Type" not in headers:
        head += _HTML if isinstance(response.body, str) else _OCTETS
    head += (
        _content_length(response, len(body), head_only)
        + (connection if status >= 200 else b"")
        + b"\r\n"
    )
    return head + body if body and not head_only and has_content(status) else head


def has_content(status: int) -> bool:
    """RFC 9110 section 6.4.1, and 15.3.6 for 205."""
    return status >= 200 and status not in (204, 205, 304)


def encode_start(response: Response, connection: bytes, length: int | None, chunked: bool) -> bytes:
    """Return the head of a response whose content follows in pieces: `length` bytes, or chunked, or
    until the end."""
    framing = b""
    if has_content(response.status) or response.status == 304:
        if length is not None:
            framing = b"Content-Length: %d\r\n" % length
        elif chunked and response.status != 304:
            framing = b"Transfer-Encoding: chunked\r\n"
    elif response.status == 205:
        framing = b"Content-Length: 0\r\n"
    fields = response.headers.encode(without=_FRAMING)
    kind = (
        b"" if "Content-Type" in response.headers or not has_content(response.status) else _OCTETS
    )
    return status_line(response.status) + fields + kind + framing + connection + b"\r\n"


def _content_length(response: Response, size: int, head_only: bool) -> bytes:
    """RFC 9110 section 8.6: none in 1xx and 204; in 304 and to HEAD the length of what GET would
    give."""
    status = response.status
    if status < 200 or status == 204:
        return b""
    if size == 0 and (head_only or status == 304):
        given = response.headers.get("Content-Length", "")
        if given.isascii() and given.isdigit():
            return b"Content-Length: %b\r\n" % given.encode()
        if status == 304:
            return b""
    return b"Content-Length: %d\r\n" % (0 if status == 205 else size)
