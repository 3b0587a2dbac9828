"""Numbers on the wire are decimal text."""

from __future__ import annotations

from gworker.errors import BrokerError


def seconds_of(milliseconds: bytes) -> float:
    """A time to live. Raises BrokerError if it is negative, ValueError if it is no number."""
    number = int(milliseconds)
    if number < 0:
        raise BrokerError(f"a time to live is not {number} milliseconds")
    return number / 1000
