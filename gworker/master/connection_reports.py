"""The `connections` commands that wait for the worker processes to list their connections."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from gworker.master.control_connection import Call
from gworker.master.slots import Process

# How long a command waits for a process whose event loop does not turn. One whose loop turns is at
# work on its list, and gets up to MOST_REPORT_SECONDS.
REPORT_SECONDS = 2.0

MOST_REPORT_SECONDS = 60.0

LOOK_SECONDS = 0.25  # between two looks at the processes that have not answered by then


@dataclass(eq=False)
class _Report:
    call: Call
    waiting: set[Process]
    began: float
    look_at: float
    missing: list[int] = field(default_factory=list)

    def give_up(self, now: float) -> None:
        # Wait no longer for the processes that hang, are dead, or take far too long.
        self.look_at = now + LOOK_SECONDS
        is_over = now - self.began >= MOST_REPORT_SECONDS
        lost = {each for each in self.waiting if is_over or each.beat_age(now) >= REPORT_SECONDS}
        self.waiting -= lost
        self.missing += [each.pid for each in lost]


class ConnectionReports:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reports: dict[int, _Report] = {}
        self._numbers = count(1)

    def begin(self, call: Call, processes: list[Process], limit: int | None) -> None:
        """Ask `processes` for their connections, each for `limit` at most."""
        request, now = next(self._numbers), self._clock()
        for process in processes:
            process.channel.send({"do": "connections", "request": request, "limit": limit})
        self._reports[request] = _Report(call, set(processes), now, now + REPORT_SECONDS)
        self._finish_if_complete(request)

    def received(self, process: Process, request: int, descriptors: list[int]) -> None:
        """A process has answered with a file that holds its rows; without one, it could not make
        any. The descriptors stay the caller's."""
        report = self._reports.get(request)
        if report is None or process not in report.waiting:
            return
        report.waiting.remove(process)
        if descriptors:
            report.call.send({"pid": process.pid}, fds=descriptors[:1])
        else:
            report.missing.append(process.pid)
        self._finish_if_complete(request)

    def next_deadline(self) -> float:
        """When `expire` is due; infinity if no command waits."""
        return min((report.look_at for report in self._reports.values()), default=float("inf"))

    def expire(self, now: float) -> None:
        for request, report in list(self._reports.items()):
            if report.look_at <= now:
                report.give_up(now)
            if report.call.gone:
                report.waiting.clear()
            self._finish_if_complete(request)

    def _finish_if_complete(self, request: int) -> None:
        report = self._reports[request]
        if not report.waiting:
            del self._reports[request]
            report.call.finish(0, missing=sorted(report.missing))
