"""When each of many keys ends."""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)


class Deadlines(Generic[_Key]):
    """When each key ends. One that is set later and later costs no more memory than once, and
    each costs O(log n) over its life."""

    def __init__(self) -> None:
        self._ends: dict[_Key, float] = {}
        # At least one for each key, not later than its end. A number tells equal times apart.
        self._heap: list[tuple[float, int, _Key]] = []
        self._looked_at: dict[_Key, float] = {}  # the earliest in the heap
        self._count = 0

    def __contains__(self, key: _Key) -> bool:
        return key in self._ends

    def set(self, key: _Key, end: float) -> None:
        """End at this time; inf is never."""
        if end == math.inf:
            self._ends.pop(key, None)
            return
        self._ends[key] = end
        if end < self._looked_at.get(key, math.inf):
            self._push(key, end)
            if len(self._heap) > 2 * len(self._ends) + 64:
                self._build()

    def remove(self, key: _Key) -> None:
        self._ends.pop(key, None)

    def passed(self, now: float) -> Iterator[_Key]:
        """Those that have ended. They are removed."""
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            if self._looked_at.get(key) == when:
                del self._looked_at[key]
            end = self._ends.get(key)
            if end is None:
                continue
            if end <= now:
                del self._ends[key]
                yield key
            elif key not in self._looked_at:
                self._push(key, end)

    def _push(self, key: _Key, end: float) -> None:
        self._looked_at[key] = end
        self._count += 1
        heapq.heappush(self._heap, (end, self._count, key))

    def _build(self) -> None:
        self._heap = [(end, n, key) for n, (key, end) in enumerate(self._ends.items())]
        self._count = len(self._heap)
        self._looked_at = dict(self._ends)
        heapq.heapify(self._heap)
