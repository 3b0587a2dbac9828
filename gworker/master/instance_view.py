"""An instance at one moment, for the parts that report it: status, health, systemd.

A view is made when it is asked for, and read at once: its slots and processes go on changing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gworker.master.fleet import Fleet
from gworker.master.plan import Place
from gworker.master.slots import Process, Role, State


class InstanceState(StrEnum):
    """The life of an instance. A start that fails with --reload stays STARTING, and waits."""

    STARTING = "starting"
    RUNNING = "running"
    RELOADING = "reloading"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class InstanceView:
    """What an instance is and has. Times are monotonic seconds."""

    now: float
    state: InstanceState
    started: float
    is_rolling_out: bool
    last_reload: dict[str, Any]
    fleet: Fleet

    @property
    def is_stopping(self) -> bool:
        return self.state in (InstanceState.STOPPING, InstanceState.STOPPED)

    def listen_url(self, place: Place) -> str | None:
        """Where the process in `place` listens, with the port that was chosen."""
        return self.fleet.listeners.url(self.fleet.plan, place)

    @property
    def processes(self) -> Collection[Process]:
        return self.fleet.children.by_pid.values()

    def counted(self) -> list[Process]:
        """The children that commands count: all that serve, or have something to finish."""
        return [each for each in self.processes if each.role not in (Role.WATCHER, Role.MOLD)]

    def _workers(self) -> list[Process]:
        return [each for each in self.processes if each.role is Role.WORKER]

    def serving(self, worker: str | None = None) -> list[Process]:
        return [
            each
            for each in self._workers()
            if each.state in (State.READY, State.RETIRING) and worker in (None, each.worker)
        ]

    def ready(self, worker: str | None = None) -> list[Process]:
        return [
            each
            for each in self._workers()
            if each.state is State.READY and worker in (None, each.worker)
        ]
