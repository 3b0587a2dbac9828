"""Timers of a worker process.

Each run has a greenlet of its own, so it may block. A persistent timer keeps its beat: the n-th run
is due at start + n × interval on the monotonic clock, however late the runs before it were. Runs
that fall due while one is still going on are left out, so a timer never overlaps itself.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from gevent import get_hub
from greenlet import greenlet

from gworker.pool import GreenletPool
from gworker.scoreboard import Column, Row

log = logging.getLogger("gworker")

RESOLUTION = 0.001
"""Seconds."""


class _Entry:
    """One timer that is set."""

    __slots__ = ("_armed", "_owner", "arguments", "callback", "due", "id", "interval", "persistent")

    def __init__(
        self,
        owner: _Timers,
        interval: float,
        callback: Callable[..., object],
        args: Sequence[Any],
        persistent: bool,
    ) -> None:
        self._owner = owner
        self.id = next(owner.ids)
        self.interval = interval
        self.callback = callback
        self.arguments = tuple(args)
        self.persistent = persistent
        self.due = monotonic() + interval
        self._armed: Any = None
        self.arm()

    def arm(self) -> None:
        """Wait until it is due."""
        loop = get_hub().loop
        loop.update_now()
        self._armed = loop.timer(max(0.0, self.due - monotonic()))
        self._armed.start(self._fire)

    def disarm(self) -> None:
        """Stop waiting."""
        if self._armed is not None:
            self._armed.stop()
            self._armed.close()
            self._armed = None

    def _fire(self) -> None:
        self.disarm()
        self._owner.pool.start(self)

    def run(self, _: greenlet) -> None:
        """One run, in a pooled greenlet."""
        if self.id not in self._owner.entries:
            return
        if not self.persistent:
            self._owner.remove(self.id)
        try:
            self.callback(*self.arguments)
        except BaseException:
            self._owner.failed(self)
        if self.id in self._owner.entries:
            self._next()

    def _next(self) -> None:
        late = monotonic() - self.due
        self.due += self.interval * (1 + int(late / self.interval))
        self.arm()


class _Timers:
    """All timers of this process."""

    def __init__(self) -> None:
        self.ids = itertools.count(1)
        self.entries: dict[int, _Entry] = {}
        self.row: Row | None = None
        self._pool: GreenletPool | None = None

    @property
    def pool(self) -> GreenletPool:
        """Where runs get their greenlets: the process's pool, or one of its own before there is one."""
        if self._pool is None:
            self._pool = GreenletPool()
        return self._pool

    def attach(self, pool: GreenletPool, row: Row) -> None:
        """Use the process's pool, and count into its scoreboard row."""
        self._pool = pool
        self.row = row
        self._count()

    def _count(self) -> None:
        if self.row is not None:
            self.row[Column.TIMERS] = len(self.entries)

    def add(self, entry: _Entry) -> int:
        """Register `entry`."""
        self.entries[entry.id] = entry
        self._count()
        return entry.id

    def remove(self, timer_id: int) -> bool:
        """Forget a timer. False: there is none with this id."""
        entry = self.entries.pop(timer_id, None)
        if entry is None:
            return False
        entry.disarm()
        self._count()
        return True

    def failed(self, entry: _Entry) -> None:
        """A run let an exception escape."""
        if self.row is not None:
            self.row[Column.EXCEPTIONS] += 1
        log.exception("exception in timer %d (%r)", entry.id, entry.callback)


timers = _Timers()


class Timer:
    """Timers of this process: `Timer.add`, `Timer.delete`, `Timer.delete_all`."""

    @staticmethod
    def add(interval: float, callback: Callable[..., object], args: Sequence[Any] = (), persistent: bool = True) -> int:
        """Call `callback(*args)` every `interval` seconds, or once if not `persistent`; return its id (> 0).

        Raises ValueError if `interval` is not a number from 0.001 (from 0 if not persistent).
        """
        if not callable(callback):
            raise TypeError(f"Timer.add: {callback!r} cannot be called")
        if not isinstance(interval, int | float) or not interval >= (RESOLUTION if persistent else 0):
            raise ValueError(f"Timer.add: interval {interval!r} is not a number of seconds from {RESOLUTION}")
        return timers.add(_Entry(timers, interval, callback, args, persistent))

    @staticmethod
    def delete(timer_id: int) -> bool:
        """Stop a timer, also from inside its own callback. False: there is none with this id."""
        return timers.remove(timer_id)

    @staticmethod
    def delete_all() -> None:
        """Stop every timer of this process."""
        for timer_id in list(timers.entries):
            timers.remove(timer_id)
