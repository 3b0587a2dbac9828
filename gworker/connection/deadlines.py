"""Deadlines of peers that owe us something: the rest of a header, of a handshake.

Most peers never get near theirs, so a deadline costs next to nothing: an entry in two dicts, and
one timer for the process that is armed only while there are deadlines. Those of equal length form a
queue, of which only the front is looked at: thousands cost no more than a few.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gworker.system.event_loop import Loop

GRANULARITY = 0.25  # seconds by which a deadline may be late

# So many deadlines expire at once, and seconds until the next: of thousands that are late together
# other connections notice nothing.
BATCH = 32
PAUSE = 0.001

MOVED_SECONDS = 0.5  # what a peer still has at least after it was moved from another process


class Deadlines:
    """The peers of one process that are under a deadline.

    expired: called with a peer whose deadline has passed. clock: seconds that no one sets, unlike
    the event loop's `now()`, which is the time of day.
    """

    def __init__(
        self,
        loop: Loop,
        expired: Callable[[object], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._expired = expired
        self._timer = loop.timer(GRANULARITY, GRANULARITY)
        self._rest = loop.timer(PAUSE, PAUSE)  # while more are late than BATCH
        # By seconds given: when the deadline of each peer passes, the earliest first.
        self._queues: dict[float, dict[object, float]] = {}
        # The same of those that had a part of their time in another process; in no order.
        self._restored: dict[object, float] = {}
        self.due: dict[object, dict[object, float]] = {}  # the queue in which each peer is

    def set(self, peer: object, seconds: float) -> None:
        """Put `peer` under a deadline of `seconds` from now, unless it is under one. 0: no
        limit."""
        if peer in self.due or seconds <= 0:
            return
        self._enter(peer, self._queues.setdefault(seconds, {}), seconds)

    def _enter(self, peer: object, queue: dict[object, float], seconds: float) -> None:
        if not self.due:
            self._timer.again(self._check)
        self.due[peer] = queue
        queue[peer] = self._clock() + seconds

    def forget(self, peer: object) -> None:
        queue = self.due.pop(peer, None)
        if queue is not None:
            del queue[peer]
            if not self.due:
                self._timer.stop()

    def save(self, peer: object) -> float | None:
        """Seconds that `peer` still has; None if it is under no deadline."""
        queue = self.due.get(peer)
        return None if queue is None else queue[peer] - self._clock()

    def restore(self, peer: object, left: float) -> None:
        """Put `peer`, which comes from another process, under the rest of its deadline."""
        self._enter(peer, self._restored, max(left, MOVED_SECONDS))

    def stop(self) -> None:
        self._timer.stop()
        self._rest.stop()

    def _check(self) -> None:
        now = self._clock()
        late = [peer for peer, due in self._restored.items() if due <= now]
        for queue in self._queues.values():
            for peer, due in queue.items():
                if due > now or len(late) > BATCH:
                    break
                late.append(peer)
        for peer in late[:BATCH]:
            if peer in self.due:  # else what was done about another one has ended it
                self.forget(peer)
                self._expired(peer)
        if len(late) > BATCH:
            self._rest.again(self._check)
        else:
            self._rest.stop()
