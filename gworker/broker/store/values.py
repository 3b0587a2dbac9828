"""Shared data: values by their channels."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Callable

from gworker.broker.interface import Reply
from gworker.broker.store.arguments import seconds_of
from gworker.broker.store.deadlines import Deadlines
from gworker.errors import BrokerError

# Keys in one answer of `keys`.
KEYS_PAGE = 1000

# What a number is to `increment`: 64 bits with a sign, as in Redis.
_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_LEAST, _GREATEST = -(1 << 63), (1 << 63) - 1


class Values:
    """now: the time, in seconds; `drop_expired` has been called with it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._data: dict[bytes, bytes] = {}
        self._ends: Deadlines[bytes] = Deadlines()
        self._names = _SortedNames()

    def get(self, channel: bytes) -> bytes | None:
        self._now()
        return self._data.get(channel)

    def set(self, channel: bytes, value: bytes, ttl_ms: bytes) -> int:
        """Store a value, with a time to live of its own. Returns 1."""
        now, seconds = self._now(), seconds_of(ttl_ms)
        self._put(channel, value)
        self._ends.set(channel, now + seconds if seconds else math.inf)
        return 1

    def add(self, channel: bytes, value: bytes, ttl_ms: bytes) -> int:
        """Store a value if there is none. Returns 1 if there was none."""
        self._now()
        return 0 if channel in self._data else self.set(channel, value, ttl_ms)

    def delete(self, channel: bytes) -> int:
        """Returns 1 if there was a value."""
        self._now()
        self._ends.remove(channel)
        return int(self._data.pop(channel, None) is not None)

    def increment(self, channel: bytes, delta: bytes) -> int:
        """Add to an integer; none counts as 0. Its time to live stays. Returns the sum.

        BrokerError: the value is no integer, or the sum has more than 64 bits.
        """
        self._now()
        before = self._data.get(channel, b"0")
        if not _INTEGER.fullmatch(before):
            raise BrokerError("the value is not an integer")
        total = int(before) + int(delta)
        if not _LEAST <= total <= _GREATEST:
            raise BrokerError("the sum has more than 64 bits")
        self._put(channel, b"%d" % total)
        return total

    def compare_and_set(
        self, channel: bytes, has_expected: bytes, expected: bytes, value: bytes
    ) -> int:
        """Replace the value if it is `expected`, or with has_expected=0 if there is none. Its time
        to live stays. Returns 1 if it was so."""
        self._now()
        if self._data.get(channel) != (expected if has_expected == b"1" else None):
            return 0
        self._put(channel, value)
        return 1

    def expire(self, channel: bytes, ttl_ms: bytes) -> int:
        """Give a value another time to live. Returns 1 if there is one."""
        now, seconds = self._now(), seconds_of(ttl_ms)
        if channel not in self._data:
            return 0
        self._ends.set(channel, now + seconds if seconds else math.inf)
        return 1

    def keys(self, channel: bytes, prefix: bytes, cursor: bytes) -> list[Reply]:
        """Channels of data that begin with `prefix`: the cursor of the next call (b"" at the end),
        and some of them. A key that is there from the first call to the last is in one of them."""
        self._now()
        page = self._names.page(self._data, prefix, cursor, KEYS_PAGE + 1)
        following = page.pop() if len(page) > KEYS_PAGE else b""
        return [following, list(page)]

    def _put(self, channel: bytes, value: bytes) -> None:
        if channel not in self._data:
            self._names.add(channel, len(self._data))
        self._data[channel] = value

    def drop_expired(self, now: float) -> None:
        for channel in self._ends.passed(now):
            del self._data[channel]


class _SortedNames:
    """Names in order, a page at a time. It costs nothing before the first walk."""

    def __init__(self) -> None:
        self._sorted: list[bytes] | None = None  # some of them may be gone, or be there twice
        self._added: list[bytes] = []

    def add(self, name: bytes, known: int) -> None:
        """A name is there that was not. known: how many are."""
        if self._sorted is not None:
            self._added.append(name)
            if len(self._sorted) + len(self._added) > 2 * known + 1000:
                self._sorted = None
                self._added = []

    def page(
        self, names: dict[bytes, bytes], prefix: bytes, start: bytes, size: int
    ) -> list[bytes]:
        """At most `size` of `names` that begin with `prefix`, from `start` on."""
        if self._sorted is None:
            self._sorted = sorted(names)
        elif self._added:
            self._sorted += self._added
            self._sorted.sort()  # the greater part of it is in order already
            self._added = []
        page: list[bytes] = []
        for index in range(bisect_left(self._sorted, max(prefix, start)), len(self._sorted)):
            name = self._sorted[index]
            if not name.startswith(prefix) or len(page) == size:
                break
            if name in names and not (page and page[-1] == name):
                page.append(name)
        return page
