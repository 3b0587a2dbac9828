"""Whether every Worker of an instance serves: what `gworker health` and a service manager's
watchdog ask.

A Worker serves if one of its processes is ready and the event loop of that process turns. The two
callers differ in how old the last beat may be: a probe wants to know how it is now, a watchdog ends
the whole instance.
"""

from __future__ import annotations

from typing import Any

from gworker.errors import ConfigError
from gworker.master.instance_view import InstanceView
from gworker.master.slots import Process, State
from gworker.master.watchdog import BUSY_SECONDS


def is_busy(process: Process, now: float) -> bool:
    """True if `process` is ready, and its event loop does not turn."""
    return process.state is State.READY and process.beat_age(now) > BUSY_SECONDS


def fault(view: InstanceView, worker: str, oldest: float, told: float) -> str | None:
    """Why `worker` does not serve; None if it does.

    oldest: the age that a last beat may have. told: the seconds that the reason names.
    """
    ready = view.ready(worker)
    if not ready:
        return f"no process of {worker} serves{_failures(view, worker)}"
    if all(process.beat_age(view.now) > oldest for process in ready):
        return f"no process of {worker} has turned its event loop for {told:g} s"
    return None


def _failures(view: InstanceView, worker: str) -> str:
    # Why its slots are empty, as far as that is known: the reasons that differ.
    slots = [slot for slot in view.fleet.slots.values() if slot.worker == worker and slot.reason]
    reasons = {slot.reason: slot.label for slot in reversed(slots)}
    return "".join(f"; {label}: {reason}" for reason, label in reversed(reasons.items()))


def report(view: InstanceView, worker: str | None) -> tuple[list[dict[str, Any]], list[str]]:
    """How many processes of each Worker (or of one) serve, and what is wrong: nothing if all of
    these serve.

    Raises ConfigError for a Worker that does not exist.
    """
    counts = view.fleet.plan.counts
    if view.is_stopping or not counts:
        return [], [f"the instance is {'stopping' if view.is_stopping else 'starting'}"]
    if worker is not None and worker not in counts:
        raise ConfigError(f"there is no Worker {worker!r}; there are {', '.join(counts)}")
    rows, faults = [], []
    for name in counts if worker is None else (worker,):
        serving = sum(not is_busy(process, view.now) for process in view.ready(name))
        rows.append({"worker": name, "processes": counts[name], "serving": serving})
        if (reason := fault(view, name, BUSY_SECONDS, BUSY_SECONDS)) is not None:
            faults.append(reason)
    return rows, faults
