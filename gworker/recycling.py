"""Replacing processes that have served enough: too many requests, too much memory, too old.

Once a tick the limits are held against the scoreboard, psutil and the clock. A process that is over one gets a
successor and retires when that is ready, by the way of a reload; so nothing is lost, and capacity never
drops. One at a time per Worker: while a successor boots, or waits after a failure, or a predecessor
finishes what it has, the next one has to wait. Nothing is recycled during a start, a reload or a stop.

Requests are so many in a tick that a process counts them itself, and says when it is nearly through (`allowance`).
What that misses, as during a reload, is found here.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gworker.scoreboard import Column
from gworker.slots import Process, Slot, State

if TYPE_CHECKING:
    from gworker.arbiter import Arbiter

log = logging.getLogger("gworker")

AGE_JITTER = 0.1
"""The part of `--max-age` by which a process may be recycled earlier, so that those started together are not."""

SAMPLES = 3
"""Ticks in a row for which the memory has to be above the limit: a spike is no leak."""

SETTLED_SECONDS = 10.0
"""A process ready for less is not recycled for its memory: what it needs to begin with, its successor needs too."""


@dataclass(slots=True)
class Allowance:
    """What one process may use. `age`: seconds; 0: no limit."""

    age: float
    memory: int
    high: int = 0
    """How many ticks in a row its memory has been above."""


class Recycling:
    """The limits of the settings, and what each process was allowed at its start."""

    def __init__(self, host: Arbiter) -> None:
        self._host = host
        self._allowed: dict[int, Allowance] = {}
        """By pid."""

    def check(self, now: float) -> None:
        """Ask for a successor of what is over a limit. Once a tick: the samples of memory are counted here."""
        living = [each for each in self._host.fleet.children.by_pid.values() if not each.is_probe]
        self._allowed = {each.pid: self._allowed.get(each.pid) or self._allowance(each) for each in living}
        over = {each.pid: why for each in living if (why := self._excess(each, now))}
        if self._host.reloads.current is not None:
            return
        for slots in self._by_worker():
            if any(slot.wants_successor or slot.successor or slot.leaving for slot in slots):
                continue
            # The oldest first: else the first slots would be recycled again and again, and the last never.
            due = [(slot.current.started, slot.id) for slot in slots if slot.current and slot.current.pid in over]
            for slot in slots:
                if due and slot.current is not None and slot.id == min(due)[1]:
                    slot.wants_successor = True
                    log.info("%s (pid %d) is recycled: %s", slot.label, slot.current.pid, over[slot.current.pid])

    def used_up(self, process: Process) -> None:
        """A process says that it will soon have served as many requests as it may.

        Those of a Worker may all be so far at once: none waits for another one, for it would serve on meanwhile.
        """
        slot = self._host.fleet.slots.get((process.worker, process.id))
        is_free = self._host.reloads.current is None and not self._host.is_stopping
        if is_free and slot is not None and slot.current is process and not slot.wants_successor:
            slot.wants_successor = True
            served, most = process.row[Column.REQUESTS], process.max_requests
            log.info("%s (pid %d) is recycled: %d of %d requests", slot.label, process.pid, served, most)

    def _allowance(self, process: Process) -> Allowance:
        settings = self._host.fleet.settings_of(process)  # a reload may have put others in force since
        return Allowance(settings.max_age * (1 - random.uniform(0, AGE_JITTER)), settings.max_memory)

    def _by_worker(self) -> Iterator[list[Slot]]:
        slots = self._host.fleet.slots.values()
        for worker in dict.fromkeys(slot.worker for slot in slots):
            yield [slot for slot in slots if slot.worker == worker]

    def _excess(self, process: Process, now: float) -> str:
        """Which limit a process that serves is over; empty: none."""
        if process.state is not State.READY:
            return ""
        allowed = self._allowed[process.pid]
        requests, age = process.row[Column.REQUESTS], now - process.started
        memory = self._memory(process, allowed, now)
        if 0 < process.max_requests <= requests:
            return f"{requests} requests, {process.max_requests} were allowed"
        if memory:
            return f"{memory / (1 << 20):.1f} MiB of memory, {allowed.memory / (1 << 20):.1f} MiB are allowed"
        if 0 < allowed.age <= age:
            return f"{age:.0f} s old, {allowed.age:.0f} s were allowed"
        return ""

    def _memory(self, process: Process, allowed: Allowance, now: float) -> int:
        """The RSS in bytes if it has been above the limit for some time, else 0."""
        if not allowed.memory or process.ready_at is None or now - process.ready_at < SETTLED_SECONDS:
            return 0
        rss = self._host.sampler.rss(process.pid)
        allowed.high = allowed.high + 1 if rss > allowed.memory else 0
        return rss if allowed.high >= SAMPLES else 0
