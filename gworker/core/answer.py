"""The answers that are simple, in plain Python."""

from __future__ import annotations

from typing import Any, Final

from gworker.core.headers import HeadersCore
from gworker.core.status import status_line

HTML: Final = b"Content-Type: text/html; charset=utf-8\r\n"
OCTETS: Final = b"Content-Type: application/octet-stream\r\n"
FRAMING: Final = frozenset({"connection", "content-length", "date", "transfer-encoding"})
"""Fields of a `Response` that are the protocol's."""

_START_HTML = status_line(200) + HTML + b"Content-Length: %d\r\n%b\r\n"
_START_OCTETS = status_line(200) + OCTETS + b"Content-Length: %d\r\n%b\r\n"
_WITH_CONTENT = {
    status: status_line(status) for status in range(200, 600) if status not in (204, 205, 304)
}


def encode_simple(message: Any, response: type, fields: bytes, head_only: bool) -> bytes | None:
    """The answer to a request of HTTP/1.1 on a connection that stays, if `message` is str, bytes,
    or a `response` with such a body, a status that has content, no reason phrase of its own, and
    without Connection and Content-Length.

    response: the class of the answers that have header fields. fields: those that every answer has.
    head_only: without the content.
    """
    is_response = type(message) is response
    body = message.body if is_response else message
    kind = type(body)
    try:
        content = body.encode() if kind is str else body
    except UnicodeEncodeError:
        return None
    if type(content) is not bytes:
        return None
    if not is_response:
        head = (_START_HTML if kind is str else _START_OCTETS) % (len(content), fields)
    else:
        start = _encode_start(message, content, HTML if kind is str else OCTETS)
        if start is None:
            return None
        head = b"%bContent-Length: %d\r\n%b\r\n" % (start, len(content), fields)
    return head if head_only else head + content


def _encode_start(response: Any, content: bytes, kind: bytes) -> bytes | None:
    line, headers = _WITH_CONTENT.get(response.status), response.headers
    if line is None or response.reason is not None or not isinstance(headers, HeadersCore):
        return None
    if "connection" in headers._fields or "content-length" in headers._fields:
        return None
    if not content or "content-type" in headers._fields:
        kind = b""
    return line + headers.encode(FRAMING) + kind
