"""The status line of a response (RFC 9112 section 4)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

# The field of a response that is the last one of its connection.
CLOSE: Final = b"Connection: close\r\n"

# As RFC 9110 has them: Python before 3.13 has those of older ones.
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus} | {
    413: b"Content Too Large",
    414: b"URI Too Long",
    416: b"Range Not Satisfiable",
    422: b"Unprocessable Content",
}


def status_line(status: int) -> bytes:
    """Return the status line; its version is ours, not the peer's (RFC 9110 section 6.2)."""
    if not isinstance(status, int) or not 100 <= status <= 599:
        raise ValueError(f"a status is an int from 100 to 599, not {status!r}")
    return b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b""))
