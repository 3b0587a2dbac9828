"""Which connections a reload cannot move, asked of the processes before the first of them retires.

A process answers by itself, in its own time: the reload does not wait for it. What has been
answered when all have, or when the first process retires, is reported as one sum for each reason;
what comes later is reported at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from gworker.config.settings import Settings
from gworker.ipc.scoreboard import Column
from gworker.master import handover_plan
from gworker.master.plan import Plan
from gworker.master.slots import Process, Slot, State


class Survey:
    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._unanswered: set[int] = set()  # by pid
        # By reason: how many connections of which Worker.
        self._found: dict[str, Counter[str]] = {}
        self._known: set[tuple[str, str]] = set()  # (Worker, reason) of all that was found
        self._whole: set[str] = set()  # the Workers of which no connection can move
        self._waits = True

    def begin(self, slots: Iterable[Slot], plan: Plan, settings: Settings) -> None:
        """Ask the processes that `plan` replaces, but for those that cannot hand over at all."""
        for slot in slots:
            process, declared = slot.current, plan.declarations.get(slot.worker)
            is_kept = declared is not None and not declared.reloadable
            if process is None or process.state is not State.READY or is_kept:
                continue
            if obstacle := handover_plan.obstacle(process, declared, settings):
                self._whole.add(process.worker)
                self._count(process.worker, {obstacle: process.row[Column.CONNECTIONS]})
            else:
                self._unanswered.add(process.pid)
                process.channel.send({"do": "survey"})
        if not self._unanswered:
            self.announce()

    def _count(self, worker: str, reasons: Mapping[str, int]) -> None:
        for reason, count in reasons.items():
            if count:
                self._found.setdefault(reason, Counter())[worker] += count
                self._known.add((worker, reason))

    def answered(self, process: Process, reasons: Mapping[str, int]) -> None:
        self._count(process.worker, reasons)
        self._unanswered.discard(process.pid)
        if not (self._waits and self._unanswered):
            self.announce()

    def found_later(self, process: Process, reasons: Mapping[str, int]) -> None:
        """A process found out only during the handover why connections stay."""
        for reason, count in reasons.items():
            if process.worker not in self._whole and (process.worker, reason) not in self._known:
                self._tell(f"{sentence(count, reason)} ({process.label})")

    def announce(self) -> None:
        found, self._found, self._waits = self._found, {}, False
        for reason, counts in found.items():
            self._tell(f"{sentence(counts.total(), reason)} ({', '.join(sorted(counts))})")


def sentence(count: int, reason: str) -> str:
    """`300 connections cannot move: TLS`."""
    return f"{count} connection{'' if count == 1 else 's'} cannot move: {reason}"
