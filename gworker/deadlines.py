"""Deadlines of peers that owe us something: the rest of a header, of a handshake.

Most peers never get near theirs, so entering and leaving must cost next to nothing: a dict, and one
timer for the process that is armed only while somebody is in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

GRANULARITY = 0.25
"""Seconds by which a deadline may be late."""


class Deadlines:
    """Who is under a deadline, and until when.

    clock: seconds that no one sets, as the event loop's own `now()` are not: that is the time of day.
    """

    def __init__(self, loop: Any, expired: Callable[[Any], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expired = expired
        self._timer = loop.timer(GRANULARITY, GRANULARITY)
        self.due: dict[Any, float] = {}
        """Until when each peer has time."""

    def set(self, peer: Any, seconds: float) -> None:
        """Put `peer` under a deadline of `seconds` from now, unless it is under one."""
        if peer in self.due or seconds <= 0:
            return
        if not self.due:
            self._timer.again(self._check)
        self.due[peer] = self._clock() + seconds

    def extend(self, peer: Any, seconds: float) -> None:
        """Begin the deadline of `peer` anew."""
        self.clear(peer)
        self.set(peer, seconds)

    def left(self, peer: Any) -> float | None:
        """Seconds that `peer` still has; None if it is under no deadline."""
        due = self.due.get(peer)
        return None if due is None else due - self._clock()

    def clear(self, peer: Any) -> None:
        """Release `peer`."""
        if self.due.pop(peer, None) is not None and not self.due:
            self._timer.stop()

    def _check(self) -> None:
        now = self._clock()
        late = [peer for peer, due in self.due.items() if due <= now]
        for peer in late:
            if peer in self.due:  # else what was done about another one has released it
                self.clear(peer)
                self._expired(peer)
