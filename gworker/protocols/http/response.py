"""HTTP responses as bytes.

Every response says how long it is (RFC 9112 section 6.3), but one that is streamed to HTTP/1.0
without a length, which the end of the connection ends. What of a handler's framing fields is kept
stands in `gworker.http.response`.
"""

from __future__ import annotations

from gworker.core.answer import FRAMING, HTML, OCTETS
from gworker.core.status import status_line
from gworker.http.response import Response
from gworker.protocols.buffered import to_bytes

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

KEEP = b""
# The Connection field of a response that is not the last one, or none: staying is the default of
# HTTP/1.1, and has to be said in 1.0.
KEEP_1_0 = b"Connection: keep-alive\r\n"

PLAIN = "text/plain; charset=utf-8"
# The body of the answer to a request whose handler raised.
FAILED = "500 Internal Server Error\n"


def encode_response(message: object, connection: bytes, head_only: bool = False) -> bytes:
    """Return the bytes of an answer to a request; `head_only` if that was a HEAD.

    `connection` are the fields that the protocol adds: one of KEEP, KEEP_1_0, CLOSE, and perhaps
    Date.
    """
    if isinstance(message, (dict, list)):
        message = Response.json(message)
    if isinstance(message, Response):
        return _encode_full(message, connection, head_only)
    accepted = "Response, str, bytes, bytearray, memoryview, dict or list"
    body = to_bytes(message, "http", accepted)
    kind = HTML if isinstance(message, str) else OCTETS
    head = b"%b%bContent-Length: %d\r\n%b\r\n" % (status_line(200), kind, len(body), connection)
    return head if head_only else head + body


def _encode_full(response: Response, connection: bytes, head_only: bool) -> bytes:
    body = to_bytes(response.body, "http")
    status = response.status
    headers = response.headers
    head = status_line(status, response.reason) + headers.encode(without=FRAMING)
    if body and "Content-Type" not in headers:
        head += HTML if isinstance(response.body, str) else OCTETS
    head += (
        _content_length(response, len(body), head_only)
        + (connection if status >= 200 else b"")
        + b"\r\n"
    )
    return head + body if body and not head_only and has_content(status) else head


def has_content(status: int) -> bool:
    # RFC 9110 section 6.4.1, and 15.3.6 for 205.
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
    fields = response.headers.encode(without=FRAMING)
    kind = b"" if "Content-Type" in response.headers or not has_content(response.status) else OCTETS
    return (
        status_line(response.status, response.reason)
        + fields
        + kind
        + framing
        + connection
        + b"\r\n"
    )


def _content_length(response: Response, size: int, head_only: bool) -> bytes:
    # RFC 9110 section 8.6: none in 1xx and 204; in 304 and to HEAD the length of what GET would
    # give.
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
