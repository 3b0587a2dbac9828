"""Dates of HTTP (RFC 9110 section 5.6.7), and the Date field (6.6.1), which is made once in a second.

It is the one thing in a response that a clock decides: a protocol that nobody has configured sends none.
"""

from __future__ import annotations

from calendar import timegm
from email.utils import formatdate, parsedate_to_datetime
from time import time

_from = _until = 0.0
_field = b""


def http_date(seconds: float) -> str:
    """`seconds` since 1970 as an IMF-fixdate."""
    return formatdate(seconds, usegmt=True)


def parse_date(text: str) -> int | None:
    """Seconds since 1970 of a date in one of the three forms, None for anything else."""
    try:
        return timegm(parsedate_to_datetime(text).utctimetuple())
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def date_field() -> bytes:
    """The line `Date: ...` of this second."""
    global _from, _until, _field  # noqa: PLW0603
    now = time()
    if not _from <= now < _until:  # the clock may have been set back
        _from = now // 1
        _until = _from + 1
        _field = b"Date: %b\r\n" % http_date(_from).encode()
    return _field
