"""Peers that go on, but too slowly: they take what is sent to them, or send a body, in drips (slow
read, slow POST).

A peer is looked at while there is something for it to do. It is in time as long as it has moved,
since it was last found in time, at least `rate` bytes a second; one that has not for `seconds` is
too slow. So what is cut is cut after `seconds` at the earliest, and a quarter of them later at the
latest. Who is looked at pays for one entry in a dict; nothing is done per read or write.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

LOOKS = 4
"""How often a peer is looked at in `seconds`."""

HELD: Final = -(1 << 62)
"""In place of a number of bytes."""

MOVED = 0.5
"""Seconds that a peer still has at least after it was moved to another process."""


class Pace:
    """Who has to make progress now.

    count: a peer's bytes so far; HELD: it is not its fault that there are no more; None: it has
    nothing to do any more.
    rate: bytes a second; 0: any byte will do. seconds: 0: nobody is looked at.
    """

    def __init__(
        self,
        loop: Any,
        seconds: float,
        rate: float,
        count: Callable[[Any], int | None],
        too_slow: Callable[[Any], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._rate = rate
        self._count = count
        self._too_slow = too_slow
        self._clock = clock
        period = max(0.05, seconds / LOOKS)
        self._timer = loop.timer(period, period)
        self.marks: dict[Any, tuple[int, float]] = {}
        """Of each peer that is looked at: when it was last in time, and its bytes then."""

    def watch(self, peer: Any) -> None:
        """Look at `peer` from now on, until `forget` or until it has nothing to do."""
        if self._seconds and peer not in self.marks:
            count = self._count(peer)
            self._enter(peer, 0 if count is None or count == HELD else count, self._clock())

    def _enter(self, peer: Any, count: int, since: float) -> None:
        if not self.marks:
            self._timer.again(self._look)
        self.marks[peer] = (count, since)

    def forget(self, peer: Any) -> None:
        """Look at it no more."""
        if self.marks.pop(peer, None) is not None and not self.marks:
            self._timer.stop()

    def stop(self) -> None:
        """Look at no peer until the next one enters."""
        self._timer.stop()

    def behind(self, peer: Any) -> tuple[int, float] | None:
        """What travels with a peer that moves: its bytes when it was last in time, and the seconds
        since."""
        mark = self.marks.get(peer)
        return None if mark is None else (mark[0], self._clock() - mark[1])

    def resume(self, peer: Any, behind: tuple[int, float] | None) -> None:
        """Go on with a peer that was looked at elsewhere."""
        if behind is not None and self._seconds:
            self._enter(
                peer, behind[0], self._clock() - max(0.0, min(behind[1], self._seconds - MOVED))
            )

    def _look(self) -> None:
        now = self._clock()
        for peer, (before, since) in list(self.marks.items()):
            count = self._count(peer)
            if count is None:
                self.forget(peer)
            elif count == HELD:
                self.marks[peer] = (before, now)
            elif count - before >= max(1.0, self._rate * (now - since)):
                self.marks[peer] = (count, now)
            elif now - since >= self._seconds and peer in self.marks:
                self.forget(peer)
                self._too_slow(peer)
