"""The status line of a response (RFC 9112 section 4)."""

from __future__ import annotations

import re
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


_REASON: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def check_reason(reason: object) -> None:
    """Raise ValueError unless it may be a reason phrase: latin-1 without controls. TypeError unless
    it is a str."""
    if not isinstance(reason, str):
        raise TypeError(f"a reason phrase is a str, not {type(reason).__name__}")
    if not _REASON.fullmatch(reason):
        raise ValueError(f"a reason phrase is latin-1 without controls, not {reason!r}")


def status_line(status: int, reason: str | None = None) -> bytes:
    """Return the status line; its version is ours, not the peer's (RFC 9110 section 6.2).

    reason: None is the one that the RFC has for the status.
    """
    if not isinstance(status, int) or not 100 <= status <= 599:
        raise ValueError(f"a status is an int from 100 to 599, not {status!r}")
    if reason is None:
        return b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b""))
    check_reason(reason)
    return b"HTTP/1.1 %d %b\r\n" % (status, reason.encode("latin-1"))
