"""Whether every Worker of an instance serves: what `gworker health` and a service manager's
watchdog ask.

A Worker serves if one of its processes is ready and the event loop of that process turns. The two
callers differ in how old the last beat may be: a probe wants to know how it is now, a watchdog ends
the whole instance.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from gworker.errors import ConfigError
from gworker.master.children import Children
from gworker.master.plan import Place, Plan
from gworker.master.slots import Process, Slot, State

BUSY_SECONDS = 2.5
"""An event loop whose last beat is older than that does not turn; beats come twice a second."""


class Processes(Protocol):
    """The processes of an instance: which run, and which should."""

    @property
    def children(self) -> Children: ...
    @property
    def slots(self) -> Mapping[Place, Slot]: ...
    @property
    def plan(self) -> Plan: ...


def is_busy(process: Process, now: float) -> bool:
    """True if `process` is ready, and its event loop does not turn."""
    return process.state is State.READY and process.beat_age(now) > BUSY_SECONDS


def fault(processes: Processes, worker: str, now: float, oldest: float, told: float) -> str | None:
    """Why `worker` does not serve; None if it does.

    oldest: seconds that a last beat may be old. told: the seconds that the reason names.
    """
    ready = _ready(processes, worker)
    if not ready:
        return f"no process of {worker} serves{_failures(processes, worker)}"
    if all(process.beat_age(now) > oldest for process in ready):
        return f"no process of {worker} has turned its event loop for {told:g} s"
    return None


def _ready(processes: Processes, worker: str) -> list[Process]:
    return [
        each
        for each in processes.children.by_pid.values()
        if each.worker == worker and each.state is State.READY
    ]


def _failures(processes: Processes, worker: str) -> str:
    """Why its slots are empty, as far as that is known: the reasons that differ."""
    slots = [slot for slot in processes.slots.values() if slot.worker == worker and slot.reason]
    reasons = {slot.reason: slot.label for slot in reversed(slots)}
    return "".join(f"; {label}: {reason}" for reason, label in reversed(reasons.items()))


def report(
    processes: Processes, is_stopping: bool, worker: str | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """How many processes of each Worker (or of one) serve, and what is wrong: nothing if all of
    these serve.

    Raises ConfigError for a Worker that does not exist.
    """
    now, counts = time.monotonic(), processes.plan.counts
    if is_stopping or not counts:
        return [], [f"the instance is {'stopping' if is_stopping else 'starting'}"]
    if worker is not None and worker not in counts:
        raise ConfigError(f"there is no Worker {worker!r}; there are {', '.join(counts)}")
    rows, faults = [], []
    for name in counts if worker is None else (worker,):
        serving = sum(not is_busy(process, now) for process in _ready(processes, name))
        rows.append({"worker": name, "processes": counts[name], "serving": serving})
        if (reason := fault(processes, name, now, BUSY_SECONDS, BUSY_SECONDS)) is not None:
            faults.append(reason)
    return rows, faults
