"""Timers of a worker process.

Each run has a greenlet of its own, so it may block. A persistent timer keeps its beat: the n-th run
is due at start + n × interval on the monotonic clock, however late the runs before it were. Runs
that fall due while one is still going on are left out, so a timer never overlaps itself. A timer by
cron goes by the clock on the wall instead, and looks at it often enough to notice when that is set.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import tzinfo
from functools import cached_property
from time import monotonic, time
from typing import TYPE_CHECKING

from gevent import get_hub
from greenlet import greenlet

from gworker.connection.greenlet_pool import GreenletPool
from gworker.ipc.scoreboard import Column, Row
from gworker.system import fork_guard

if TYPE_CHECKING:
    from gworker.process.cron import Schedule

log = logging.getLogger("gworker")

RESOLUTION = 0.001  # seconds

# Thirty years. Neither infinity nor a time stamp in milliseconds is an interval.
MOST_SECONDS = 1e9

# How often a timer by cron looks at the clock on the wall: that can be set while it waits.
LOOK_SECONDS = 10.0

# A clock that is set back by less than this makes no run happen twice; by more, and it is a new
# time (cron(8)).
SET_BACK_SECONDS = 3 * 3600.0


class _Interval:
    # wait: seconds until the next look at the clock. advance: a run is over.

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._due = monotonic() + interval

    def wait(self) -> float:
        return self._due - monotonic()

    def is_due(self) -> bool:
        return True

    def advance(self) -> None:
        late = monotonic() - self._due
        self._due += self._interval * (1 + int(late / self._interval))


class _Cron:
    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._begin_at(time())

    def _begin_at(self, moment: float) -> None:
        # Nothing up to `moment` is due any more.
        self._seen = moment
        self._due = self._schedule.after(moment)

    def wait(self) -> float:
        return min(LOOK_SECONDS, self._due - time())

    def is_due(self) -> bool:
        now = time()
        if now < self._due:
            if now < self._seen - SET_BACK_SECONDS:
                self._begin_at(now)
            self._seen = max(self._seen, now)
        return now >= self._due

    def advance(self) -> None:
        now = time()  # the clock may have been set back while it ran
        self._begin_at(now if now < self._due - SET_BACK_SECONDS else max(now, self._due))


class _Entry:
    # A pool job.

    def __init__(
        self,
        due: _Interval | _Cron,
        callback: Callable[..., object],
        args: Sequence[object],
        persistent: bool = True,
    ) -> None:
        if not callable(callback):
            raise TypeError(f"a timer calls a function: {callback!r} cannot be called")
        if isinstance(args, str | bytes):
            raise TypeError(
                f"the arguments of a timer are a sequence of them, not {args!r}: say ({args!r},)"
            )
        self.id = next(timers.ids)
        self.callback = callback
        self.arguments = tuple(args)
        self.persistent = persistent
        self._due = due

    def arm(self) -> None:
        loop = get_hub().loop
        loop.update_now()
        self._timer = loop.timer(max(0.0, self._due.wait()))
        self._timer.start(self._look)

    def disarm(self) -> None:
        self._timer.stop()
        self._timer.close()

    def _look(self) -> None:
        self.disarm()
        if self._due.is_due():
            timers.pool.start(self)
        else:
            self.arm()

    def run(self, _: greenlet) -> None:
        # One run, in a pooled greenlet.
        if self.id not in timers.entries:
            return
        if not self.persistent:
            timers.remove(self.id)
        try:
            self.callback(*self.arguments)
        except BaseException as error:
            fork_guard.end(error)
            timers.row[Column.EXCEPTIONS] += 1
            log.exception("exception in timer %d (%r)", self.id, self.callback)
        if self.id in timers.entries:
            self._due.advance()
            self.arm()


class _Timers:
    def __init__(self) -> None:
        self.ids = itertools.count(1)
        self.entries: dict[int, _Entry] = {}
        # The process's row of the scoreboard, or what counts before there is one.
        self.row: Row | Counter[int] = Counter()

    @cached_property
    def pool(self) -> GreenletPool:
        """Where runs get their greenlets: the process's pool, or one of its own before there is
        one."""
        return GreenletPool()

    def attach(self, pool: GreenletPool, row: Row) -> None:
        """Use the process's pool, and count into its scoreboard row."""
        self.pool, self.row = pool, row
        self._count()

    def _count(self) -> None:
        self.row[Column.TIMERS] = len(self.entries)

    def add(self, entry: _Entry) -> int:
        self.entries[entry.id] = entry
        entry.arm()
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

    def retire(self) -> None:
        """Stop those that repeat: the successor has its own. One that is due once may hold an
        answer."""
        for entry in list(self.entries.values()):
            if entry.persistent:
                self.remove(entry.id)


timers = _Timers()


class Timer:
    """Timers of this process: `Timer.add`, `Timer.cron`, `Timer.delete`, `Timer.delete_all`."""

    @staticmethod
    def add(
        interval: float,
        callback: Callable[..., object],
        args: Sequence[object] = (),
        persistent: bool = True,
    ) -> int:
        is_number = isinstance(interval, int | float) and not isinstance(interval, bool)
        if not is_number or not (RESOLUTION if persistent else 0) <= interval <= MOST_SECONDS:
            raise ValueError(
                f"Timer.add: interval {interval!r} is not a number of seconds from {RESOLUTION}"
            )
        return timers.add(_Entry(_Interval(interval), callback, args, persistent))

    @staticmethod
    def cron(
        expression: str,
        callback: Callable[..., object],
        args: Sequence[object] = (),
        tz: str | tzinfo | None = None,
    ) -> int:
        """Call `callback(*args)` whenever `expression` (crontab(5)) is due; return the timer's id
        (> 0).

        Five fields, minute hour day-of-month month day-of-week; six with the second before them; or
        `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. tz: the name of a time zone as
        `Europe/Berlin`, or a tzinfo; None is that of the machine. A run that is missed because the
        one before took longer is left out. Raises ValueError for an expression or a zone that
        cannot be read.
        """
        from gworker.process.cron import Schedule  # few need it, and it takes long to import

        return timers.add(_Entry(_Cron(Schedule(expression, tz)), callback, args))

    @staticmethod
    def delete(timer_id: int) -> bool:
        """Stop a timer, also from inside its own callback. False: there is none with this id."""
        return timers.remove(timer_id)

    @staticmethod
    def delete_all() -> None:
        """Stop every timer of this process."""
        for timer_id in list(timers.entries):
            timers.remove(timer_id)
