"""Replacing processes that have served enough: too many requests, too much memory, too old.

A process that is over a limit gets a successor and retires when that is ready, by the way of a
reload; so nothing is lost, and capacity never drops. Nothing is recycled during a start, a reload
or a stop.

Once a tick memory and age are held against psutil and the clock. One at a time per Worker: while a
successor boots, or waits after a failure, or a predecessor finishes what it has, the next one has
to wait. Requests are counted by each process itself, which asks for its successor when it is time
to (request_limit.py): a tick would come too late.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gworker.master.slots import Process, Slot, State

log = logging.getLogger("gworker")

# The part of `--max-age` by which a process may be recycled earlier, so that those started together
# are not.
AGE_JITTER = 0.1

SAMPLES = 3  # ticks in a row for which the memory has to be above the limit: a spike is no leak

# A process ready for less is not recycled for its memory: what it needs to begin with, its
# successor needs too.
SETTLED_SECONDS = 10.0

MIB = 1 << 20


@dataclass(slots=True)
class ProcessLimits:
    """What one process may use; 0: no limit."""

    max_age: float  # seconds
    rss: int = 0  # bytes at the last sample, if that was above the limit
    samples_above: int = 0  # how many samples in a row were above it


class Recycler:
    """The limits of the processes that serve, and what is over one."""

    def __init__(self) -> None:
        self._limits: dict[int, ProcessLimits] = {}  # by pid
        # Why processes want a successor that a reload will replace, if it succeeds: by pid.
        self._postponed: dict[int, str] = {}

    def on_request(self, slot: Slot, process: Process, reason: str, is_rolling_out: bool) -> None:
        """`process`, which serves `slot`, wants a successor. reason: which limit it is over; empty:
        none."""
        if reason and is_rolling_out:
            process.channel.send({"do": "serve_on"})
            self._postponed[process.pid] = reason
        elif reason:
            recycle(slot, process, reason)
        else:
            slot.wants_successor = True

    def observe(self, processes: Iterable[Process], rss: Callable[[int], int], now: float) -> None:
        """Count the samples of memory: once a tick. rss: bytes, by pid."""
        ready = [each for each in processes if each.state is State.READY]
        self._limits = {each.pid: self._limits.get(each.pid) or _limits(each) for each in ready}
        for each in ready:
            limits, most = self._limits[each.pid], each.settings.max_memory
            if most and each.ready_at is not None and now - each.ready_at >= SETTLED_SECONDS:
                limits.rss = rss(each.pid)
                limits.samples_above = limits.samples_above + 1 if limits.rss > most else 0

    def due(self, slots: Iterable[Slot], now: float) -> list[tuple[Slot, Process, str]]:
        """The slots whose process is to be recycled now, that process, and why.

        The processes that asked for it during a reload; and for each Worker none of whose processes
        is being replaced, the oldest that is over a limit: else the first slots would be recycled
        again and again, and the last never.
        """
        served = [(slot, slot.current) for slot in slots if slot.current is not None]
        postponed, self._postponed = self._postponed, {}
        found = [
            (slot, process, postponed[process.pid])
            for slot, process in served
            if process.pid in postponed
        ]
        busy = {slot.worker for slot in slots if slot.is_being_replaced}
        busy |= {slot.worker for slot, _, _ in found}
        for slot, process in sorted(served, key=lambda each: (each[1].started, each[0].id)):
            if slot.worker not in busy and (why := self._excess(process, now)):
                found.append((slot, process, why))
                busy.add(slot.worker)
        return found

    def _excess(self, process: Process, now: float) -> str:
        # Which limit a process that serves is over; empty: none.
        limits = self._limits.get(process.pid)
        if limits is None or process.state is not State.READY:
            return ""
        if limits.samples_above >= SAMPLES:
            most = process.settings.max_memory
            return f"{limits.rss / MIB:.1f} MiB of memory, {most / MIB:.1f} MiB are allowed"
        age = now - process.started
        if 0 < limits.max_age <= age:
            return f"{age:.0f} s old, {limits.max_age:.0f} s were allowed"
        return ""


def recycle(slot: Slot, process: Process, reason: str) -> None:
    slot.wants_successor = True
    log.info("%s (pid %d) is recycled: %s", process.label, process.pid, reason)


def _limits(process: Process) -> ProcessLimits:
    return ProcessLimits(process.settings.max_age * (1 - random.uniform(0, AGE_JITTER)))
