"""Happy eyeballs: in which order, and when, the addresses of a name are tried (RFC 8305, 4 and 5).

A pure plan: it knows no sockets and reads no clock. Whoever dials does, until `is_over`:

    begin(now)            the index of the attempt to be begun now, or None
    failed()              an attempt has failed: the next one is due at once
    wait(now)             seconds until another one may be begun; None: only the end of one that is
                          under way helps
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import TypeVar

Item = TypeVar("Item")

# Seconds that an attempt has for itself before the next one begins (RFC 8305, 5: the Connection
# Attempt Delay).
STAGGER = 0.25


def interleave(addresses: Sequence[tuple[int, Item]]) -> list[tuple[int, Item]]:
    """(family, address) pairs in the order in which they are tried: families take turns (RFC 8305,
    4).

    The resolver's order (RFC 6724) says which family is first, and it is kept within each family.
    What comes twice is tried once.
    """
    families: dict[int, list[tuple[int, Item]]] = {}
    for pair in addresses:
        same = families.setdefault(pair[0], [])
        if pair not in same:
            same.append(pair)
    turns = zip_longest(*families.values())
    return [pair for pair in chain.from_iterable(turns) if pair is not None]


class Race:
    """Which of `count` attempts are to be begun when."""

    def __init__(self, count: int, stagger: float = STAGGER) -> None:
        self._count = count
        self._stagger = stagger
        self._begun = 0
        self._failed = 0
        self._due = 0.0

    @property
    def is_over(self) -> bool:
        """True when all have been begun and all have failed."""
        return self._failed == self._count

    def begin(self, now: float) -> int | None:
        """The index of the attempt to be begun at `now` (seconds of any clock), or None."""
        if self._begun == self._count or now < self._due:
            return None
        self._due = now + self._stagger
        self._begun += 1
        return self._begun - 1

    def failed(self) -> None:
        """One of those under way has failed: do not wait any longer with the next."""
        self._failed += 1
        self._due = 0.0

    def wait(self, now: float) -> float | None:
        """Seconds from `now` until `begin` has one; None if all were begun."""
        return None if self._begun == self._count else max(0.0, self._due - now)
