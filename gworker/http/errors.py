"""What is wrong with a request. Each error carries the answer that it gets."""

from __future__ import annotations

from gworker.core.status import CLOSE, status_line
from gworker.errors import RequestError
from gworker.http.date import date_field


class RefusedRequest(RequestError):
    """A request that is answered with `status` and one line of text, and ends its connection.

    fields: further header lines of that answer.
    """

    def __init__(self, message: str, status: int = 400, fields: bytes = b"") -> None:
        line = status_line(status)
        body = b"%b: %b\n" % (line[9:].strip(), message.encode("ascii", "backslashreplace"))
        head = b"%bContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n%b\r\n"
        reply = head % (line, len(body), fields + date_field() + CLOSE) + body
        super().__init__(message, reply)
        self.status = status


class BadRequest(RefusedRequest, ValueError):
    """The client sent what it may not. If a handler lets it escape, the client is answered with
    `status` and `message`.

    ValueError for a status that does not blame the client (400 to 499).
    """

    def __init__(self, message: str, status: int = 400, fields: bytes = b"") -> None:
        if not 400 <= status <= 499:
            raise ValueError(f"a BadRequest has a status of 400 to 499, not {status}")
        super().__init__(message, status, fields)


class SlowRequest(RefusedRequest, TimeoutError):
    """The body came more slowly than `min_rate` for `header_timeout`: 408."""

    def __init__(self, message: str, status: int = 408) -> None:
        super().__init__(message, status)


class ClientGone(RequestError, ConnectionError):
    """The body is cut off: the client has gone, or has finished too early (400)."""


def without_content(reply: bytes) -> bytes:
    # `reply` as HEAD gets it (RFC 9110 section 9.3.2).
    return reply[: reply.find(b"\r\n\r\n") + 4] if reply else reply
