"""The `connections` commands that wait for the worker processes to list their connections."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

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
    began: float
    look_at: float
    waiting: dict[int, Process] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)

    def give_up(self, now: float) -> None:
        # Wait no longer for the processes that hang, are dead, or take far too long.
        self.look_at = now + LOOK_SECONDS
        is_over = now - self.began >= MOST_REPORT_SECONDS
        for process in list(self.waiting.values()):
            if is_over or process.beat_age(now) >= REPORT_SECONDS:
                del self.waiting[process.pid]
                self.missing.append(process.pid)


class ConnectionReports:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[int, _Report] = {}
        self._last = 0

    def begin(self, call: Call, processes: list[Process], limit: int | None) -> None:
        """Ask `processes` for their connections, each for `limit` at most."""
        self._last += 1
        now = self._clock()
        report = self._waiting[self._last] = _Report(call, now, now + REPORT_SECONDS)
        for process in processes:
            process.channel.send({"do": "connections", "request": self._last, "limit": limit})
            report.waiting[process.pid] = process
        self._finish_if_complete(self._last)

    def received(self, process: Process, request: int, descriptors: list[int]) -> None:
        """A process has answered with a file that holds its rows; without one, it could not make
        any. The descriptors stay the caller's."""
        report = self._waiting.get(request)
        if report is not None and process.pid in report.waiting:
            del report.waiting[process.pid]
            if descriptors:
                report.call.send({"pid": process.pid}, fds=descriptors[:1])
            else:
                report.missing.append(process.pid)
            self._finish_if_complete(request)

    def next_deadline(self) -> float:
        """When `expire` is due; infinity if no command waits."""
        return min((report.look_at for report in self._waiting.values()), default=float("inf"))

    def expire(self, now: float) -> None:
        for request, each in list(self._waiting.items()):
            if each.look_at <= now:
                each.give_up(now)
            if each.call.gone:
                each.waiting.clear()
            self._finish_if_complete(request)

    def _finish_if_complete(self, request: int) -> None:
        report = self._waiting[request]
        if not report.waiting:
            del self._waiting[request]
            report.call.finish(0, missing=sorted(report.missing))
