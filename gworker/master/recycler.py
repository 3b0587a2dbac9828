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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gworker.master.slots import Process, Slot, State

if TYPE_CHECKING:
    from gworker.arbiter import Arbiter

log = logging.getLogger("gworker")

AGE_JITTER = 0.1
"""The part of `--max-age` by which a process may be recycled earlier, so that those started
together are not."""

SAMPLES = 3
"""Ticks in a row for which the memory has to be above the limit: a spike is no leak."""

SETTLED_SECONDS = 10.0
"""A process ready for less is not recycled for its memory: what it needs to begin with, its
successor needs too."""


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
        self._postponed: dict[int, str] = {}
        """Why processes want a successor that a reload will replace, if it succeeds: by pid."""

    def asked(self, slot: Slot, process: Process, reason: str) -> None:
        """`process`, which serves `slot`, wants a successor. reason: which limit it is over; empty:
        none."""
        slot.wants_successor = True
        if not reason:
            return
        if self._host.rollouts.current is None:
            log.info("%s (pid %d) is recycled: %s", process.label, process.pid, reason)
            return
        self.has_no_successor(slot)
        slot.wants_successor = False
        self._postponed[process.pid] = reason

    def has_no_successor(self, slot: Slot) -> None:
        """Tell the process that waits for one, if there is such, to serve on until there is one."""
        if slot.wants_successor and slot.current is not None and slot.current.state is State.READY:
            slot.current.channel.send({"do": "serve_on"})

    def check(self, now: float) -> None:
        """Ask for a successor of what is over a limit. Once a tick: the samples of memory are
        counted here."""
        living = [each for each in self._host.fleet.children.by_pid.values() if not each.is_probe]
        self._allowed = {
            each.pid: self._allowed.get(each.pid) or self._allowance(each) for each in living
        }
        over = {each.pid: why for each in living if (why := self._excess(each, now))}
        if self._host.rollouts.current is not None:
            return
        self._ask_postponed()
        for slots in self._by_worker():
            if any(slot.wants_successor or slot.successor or slot.leaving for slot in slots):
                continue
            # The oldest first: else the first slots would be recycled again and again, and the last
            # never.
            due = [
                (slot.current.started, slot.id)
                for slot in slots
                if slot.current and slot.current.pid in over
            ]
            for slot in slots:
                if due and slot.current is not None and slot.id == min(due)[1]:
                    slot.wants_successor = True
                    log.info(
                        "%s (pid %d) is recycled: %s",
                        slot.label,
                        slot.current.pid,
                        over[slot.current.pid],
                    )

    def _ask_postponed(self) -> None:
        """Those that wanted a successor during a reload, and were not replaced by it."""
        postponed, self._postponed = self._postponed, {}
        for slot in self._host.fleet.slots.values():
            if slot.current is not None and (reason := postponed.get(slot.current.pid)) is not None:
                self.asked(slot, slot.current, reason)

    def _allowance(self, process: Process) -> Allowance:
        settings = self._host.fleet.settings_of(
            process
        )  # a reload may have put others in force since
        return Allowance(
            settings.max_age * (1 - random.uniform(0, AGE_JITTER)), settings.max_memory
        )

    def _by_worker(self) -> Iterator[list[Slot]]:
        slots = self._host.fleet.slots.values()
        for worker in dict.fromkeys(slot.worker for slot in slots):
            yield [slot for slot in slots if slot.worker == worker]

    def _excess(self, process: Process, now: float) -> str:
        """Which limit a process that serves is over; empty: none."""
        if process.state is not State.READY:
            return ""
        allowed = self._allowed[process.pid]
        age, memory = now - process.started, self._memory(process, allowed, now)
        if memory:
            return (
                f"{memory / (1 << 20):.1f} MiB of memory, {allowed.memory / (1 << 20):.1f} "
                "MiB are allowed"
            )
        if 0 < allowed.age <= age:
            return f"{age:.0f} s old, {allowed.age:.0f} s were allowed"
        return ""

    def _memory(self, process: Process, allowed: Allowance, now: float) -> int:
        """The RSS in bytes if it has been above the limit for some time, else 0."""
        if (
            not allowed.memory
            or process.ready_at is None
            or now - process.ready_at < SETTLED_SECONDS
        ):
            return 0
        rss = self._host.sampler.rss(process.pid)
        allowed.high = allowed.high + 1 if rss > allowed.memory else 0
        return rss if allowed.high >= SAMPLES else 0
