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
from collections.abc import Callable, Collection, Iterable

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


def on_request(slot: Slot, process: Process, reason: str, is_rolling_out: bool) -> None:
    """`process`, which serves `slot`, wants a successor. reason: which limit it is over; empty:
    none."""
    if reason and is_rolling_out:
        process.channel.send({"do": "serve_on"})
        process.postponed = reason
    elif reason:
        _recycle(slot, process, reason)
    else:
        slot.wants_successor = True


def observe(processes: Iterable[Process], rss: Callable[[int], int], now: float) -> None:
    """Look at age and memory: once a tick. rss: bytes, by pid."""
    for each in processes:
        if each.state is not State.READY or each.ready_at is None:
            continue
        if each.max_age is None:
            each.max_age = each.settings.max_age * (1 - random.uniform(0, AGE_JITTER))
        most = each.settings.max_memory
        if most and now - each.ready_at >= SETTLED_SECONDS:
            each.rss = rss(each.pid)
            each.samples_above = each.samples_above + 1 if each.rss > most else 0


def recycle_due(slots: Collection[Slot], now: float) -> None:
    """Recycle the processes that asked for it during a reload; and for each Worker none of whose
    processes is being replaced, the oldest that is over a limit: else the first slots would be
    recycled again and again, and the last never."""
    served = [(slot, slot.current) for slot in slots if slot.current is not None]
    for slot, process in served:
        if process.postponed:
            _recycle(slot, process, process.postponed)
            process.postponed = ""
    busy = {slot.worker for slot in slots if slot.is_being_replaced}
    for slot, process in sorted(served, key=lambda each: (each[1].started, each[0].id)):
        if slot.worker not in busy and (why := _excess(process, now)):
            _recycle(slot, process, why)
            busy.add(slot.worker)


def _excess(process: Process, now: float) -> str:
    # Which limit a process that serves is over; empty: none.
    if process.state is not State.READY:
        return ""
    if process.samples_above >= SAMPLES:
        most = process.settings.max_memory
        return f"{process.rss / MIB:.1f} MiB of memory, {most / MIB:.1f} MiB are allowed"
    age = now - process.started
    if process.max_age and process.max_age <= age:
        return f"{age:.0f} s old, {process.max_age:.0f} s were allowed"
    return ""


def _recycle(slot: Slot, process: Process, reason: str) -> None:
    slot.wants_successor = True
    log.info("%s (pid %d) is recycled: %s", process.label, process.pid, reason)
