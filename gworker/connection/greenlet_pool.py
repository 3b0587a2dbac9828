"""The greenlets that run user code: parked when idle, reused for the next job.

On CPython 3.11 and later a new greenlet costs an mmap and a munmap (12 µs); a parked one costs
about 1 µs. A job is anything with `run(greenlet)`. Each job gets an empty contextvars context, so
what one handler leaves in a context variable is not seen by the next; `threading.local` (patched
by gevent to be per greenlet) behaves as it does in a pool of threads.
"""

from __future__ import annotations

import logging
import sys
from types import FrameType
from typing import Any

from gevent import get_hub
from gevent.exceptions import BlockingSwitchOutError
from greenlet import getcurrent, greenlet

from gworker.core.poller import Job, Poller
from gworker.system import fork_guard

log = logging.getLogger("gworker")

# Parked greenlets that are kept after a peak; each holds 8 KB.
KEEP = 512


class PooledGreenlet(greenlet):
    """One that runs jobs, and waits for nothing while it reads (`Poller.reader`)."""

    __slots__ = ("pool",)

    pool: GreenletPool

    def switch_out(self) -> None:
        """gevent calls this before the greenlet waits."""
        poller = self.pool.poller
        if poller is not None and poller.reader is self:
            raise BlockingSwitchOutError("a protocol must not wait: only its caller could go on")


class GreenletPool:
    """The free list. One per worker process. poller: what its greenlets read for."""

    __slots__ = ("_all", "_free", "_given", "_hub", "_park", "poller")

    def __init__(self) -> None:
        self.poller: Poller | None = None
        self._hub: Any = get_hub()
        self._park = greenlet.switch.__get__(self._hub)
        self._all: set[greenlet] = set()
        self._free: list[greenlet] = []
        self._given: Job | None = None

    @property
    def created(self) -> int:
        return len(self._all)

    @property
    def active(self) -> int:
        """Jobs that have begun and not ended."""
        return len(self._all) - len(self._free)

    def start(self, job: Job) -> None:
        """Run `job` now. Only from the hub, which goes on when the job first waits or ends."""
        self._given = job  # not an argument: a greenlet keeps those for as long as it lives
        if self._free:
            worker = self._free.pop()
            worker.gr_context = None
            worker.switch()
        else:
            made = PooledGreenlet(self._work, self._hub)
            made.pool = self
            self._all.add(made)
            made.switch()

    def start_soon(self, job: Job) -> None:
        """Run `job` in this turn of the event loop. From any greenlet."""
        if getcurrent() is self._hub:
            self.start(job)
        else:
            self._hub.loop.run_callback(self.start, job)

    def let_go(self) -> None:
        # In a process that user code has forked: the jobs that have begun are the parent's to go on
        # with.
        fork_guard.silence(self._all.difference(self._free), self._is_parked)

    def _is_parked(self, one: greenlet) -> bool:
        return one in self._free

    @classmethod
    def parks(cls, frame: FrameType) -> bool:
        """True for the frame in which a greenlet of a pool waits for a job."""
        return frame.f_code is cls._work.__code__

    def _work(self) -> None:
        me, free, park = getcurrent(), self._free, self._park
        job, self._given = self._given, None
        while job is not None:
            try:
                job.run(me)
            except BaseException:
                self._hub.handle_error(job, *sys.exc_info())
            job = None
            if len(free) >= KEEP:
                self._all.discard(me)
                return
            free.append(me)
            while job is None:
                # A handler may have left behind what switches or throws into its greenlet later: a
                # Timeout that it did not cancel, a link. It finds no job here; only `start` gives a
                # job.
                try:
                    park()
                except BaseException:
                    log.debug("a parked greenlet was thrown into", exc_info=True)
                job, self._given = self._given, None
