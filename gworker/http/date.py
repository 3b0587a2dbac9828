"""Dates of HTTP (RFC 9110 section 5.6.7), and the Date field (6.6.1), which is made once in a
second.

It is the one thing in a response that a clock decides.
"""

from __future__ import annotations

from calendar import timegm
from email.utils import formatdate, parsedate_to_datetime
from time import time


def http_date(seconds: float) -> str:
    """`seconds` since 1970 as an IMF-fixdate."""
    return formatdate(seconds, usegmt=True)


def parse_date(text: str) -> int | None:
    """Seconds since 1970 of a date in one of the three forms, None for anything else."""
    try:
        return timegm(parsedate_to_datetime(text).utctimetuple())
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


class DateField:
    def __init__(self) -> None:
        self._from = self._until = 0.0
        self._line = b""

    def __call__(self) -> bytes:
        now = time()
        if not self._from <= now < self._until:  # the clock may have been set back
            self._from = now // 1
            self._until = self._from + 1
            self._line = b"Date: %b\r\n" % http_date(self._from).encode()
        return self._line


# The one of this process.
date_field = DateField()
