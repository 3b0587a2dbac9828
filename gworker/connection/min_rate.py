"""The minimum rate at which peers take what is sent to them, or send a body (slow read, slow POST).

A peer is watched while there is something for it to do. It is in time as long as it has moved at
least `rate` bytes a second since it was last found in time; one that has not for `seconds` is too
slow. So what is cut is cut after `seconds` at the earliest, and a quarter of them later at the
latest. A peer that is watched costs one entry in a dict; nothing is done per read or write.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from gworker.connection.deadlines import MOVED_SECONDS
from gworker.system.event_loop import Loop

POLLS = 4  # how often a peer is looked at in `seconds`

# In place of a number of bytes: there are no more because we do not read, or not here.
NOT_PEERS_FAULT: Final = -(1 << 62)


class MinRate:
    """The peers that have to make progress now.

    count: a peer's bytes so far; NOT_PEERS_FAULT; None: it has nothing to do any more.
    rate: bytes a second; 0: any byte will do. seconds: 0: no peer is watched.
    """

    def __init__(
        self,
        loop: Loop,
        seconds: float,
        rate: float,
        count: Callable[[object], int | None],
        too_slow: Callable[[Any], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._rate = rate
        self._count = count
        self._too_slow = too_slow
        self._clock = clock
        period = max(0.05, seconds / POLLS)
        self._timer = loop.timer(period, period)
        # Each peer that is watched: its bytes when it was last in time, and when that was.
        self.marks: dict[object, tuple[int, float]] = {}

    def watch(self, peer: object) -> None:
        """Look at `peer` from now on, until `forget` or until it has nothing to do."""
        if self._seconds and peer not in self.marks:
            count = self._count(peer)
            self._enter(peer, 0 if count is None or count == NOT_PEERS_FAULT else count, 0.0)

    def _enter(self, peer: object, count: int, age: float) -> None:
        if not self.marks:
            self._timer.again(self._poll)
        self.marks[peer] = (count, self._clock() - age)

    def forget(self, peer: object) -> None:
        if self.marks.pop(peer, None) is not None and not self.marks:
            self._timer.stop()

    def save(self, peer: object) -> tuple[int, float] | None:
        """Its bytes when it was last in time, and the seconds since; None if it is not watched."""
        mark = self.marks.get(peer)
        return None if mark is None else (mark[0], self._clock() - mark[1])

    def restore(self, peer: object, saved: tuple[int, float]) -> None:
        if self._seconds:
            count, age = saved
            self._enter(peer, count, max(0.0, min(age, self._seconds - MOVED_SECONDS)))

    def stop(self) -> None:
        self._timer.stop()

    def _poll(self) -> None:
        now = self._clock()
        for peer, (before, since) in list(self.marks.items()):
            count = self._count(peer)
            if count is None:
                self.forget(peer)
            elif count == NOT_PEERS_FAULT:
                self.marks[peer] = (before, now)
            elif count - before >= max(1.0, self._rate * (now - since)):
                self.marks[peer] = (count, now)
            elif now - since >= self._seconds and peer in self.marks:
                self.forget(peer)
                self._too_slow(peer)
