"""Dates of HTTP (RFC 9110 section 5.6.7), and the Date field (6.6.1), which is made once in a second.

It is the one thing in a response that a clock decides: a protocol that nobody has configured sends none.
"""

from __future__ import annotations

from calendar import timegm
from email.utils import formatdate, parsedate
from time import time

_second = 0
_field = b""


def http_date(seconds: float) -> str:
    """`seconds` since 1970 as an IMF-fixdate."""
    return formatdate(seconds, usegmt=True)


def parse_date(text: str) -> int | None:
    """Seconds since 1970 of a date in one of the three forms, None for anything else."""
    try:
        parsed = parsedate(text)
        return None if parsed is None else timegm(parsed)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def date_field() -> bytes:
    """The line `Date: ...` of this second."""
    global _second, _field  # noqa: PLW0603
    second = int(time())
    if second != _second:
        _field = b"Date: %b\r\n" % http_date(second).encode()
        _second = second
    return _field
