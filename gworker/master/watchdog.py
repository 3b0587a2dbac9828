"""How long processes may take, and what happens to those that take longer: stacks, then SIGKILL."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

from gworker.ipc import boot_stage, heartbeat
from gworker.ipc.scoreboard import Column
from gworker.master.children import KILL_MARGIN
from gworker.master.slots import Process, State
from gworker.master.stuck import announcement

if TYPE_CHECKING:
    from gworker.master.fleet import Fleet

log = logging.getLogger("gworker")


BEAT_SECONDS = 2 * heartbeat.SECONDS
"""Of a process that is well: a beat may be that old and mean nothing."""

DUMP_SECONDS = 1.0
"""How long a process that is to be killed may take to write its stacks."""


class Patience:
    """The deadlines of all processes of a fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def keep_deadlines(self, now: float) -> None:
        """Kill the processes that are too late."""
        for process in list(self._fleet.children.by_pid.values()):
            if process.deadline is None or process.deadline > now:
                continue
            if process.dumped or process.is_hooks or process.state is State.KILLED:
                self._fleet.children.kill(process, self._lateness(process), KILL_MARGIN)
            else:
                self._ask_for_stacks(process, now, self._lateness(process))

    def _ask_for_stacks(self, process: Process, now: float, why: str) -> None:
        """The last thing that a process may do before it is killed."""
        log.error("%s (pid %d) %s", process.label, process.pid, announcement(process.pid, why))
        process.dumped = True
        process.deadline = now + DUMP_SECONDS
        self._fleet.children.signal(process, signal.SIGUSR2)

    def _lateness(self, process: Process) -> str:
        settings = self._fleet.settings_of(process)
        if process.is_hooks:
            return f"not done within {(process.deadline or 0.0) - process.started:.1f} s"
        if process.state is State.BOOTING:
            seconds = settings.boot_timeout
            return boot_stage.lateness(
                process.step, settings.target, process.worker, seconds, process.line
            )
        if process.state is State.READY:
            return f"its event loop did not turn for {settings.timeout:g} s"
        return f"did not leave within {process.grace:g} s"

    def check_beats(self, now: float) -> None:
        """A process whose event loop hangs gets the time to write its stacks; then it is killed."""
        for process in self._fleet.children.by_pid.values():
            limit = self._fleet.settings_of(process).timeout
            age = now - process.row[Column.BEAT] / 1e9
            hangs = limit and process.state is State.READY and age > limit + BEAT_SECONDS
            if hangs and not process.dumped:
                self._ask_for_stacks(process, now, "hangs")

    def postpone(self, seconds: float) -> None:
        """Give every process that much more time: the arbiter itself, and perhaps all of them,
        stood still."""
        for process in self._fleet.children.by_pid.values():
            if process.deadline is not None:
                process.deadline += seconds
