"""The books about worker processes: slots, the processes that fill them, and when to try again.

Nothing here forks, signals or reads a clock: pids and times are given. A slot is a place with a
stable id; its `current` process serves it, its `successor` is booting to take over, and those that
are `leaving` finish what they have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from gworker.config.settings import Settings
from gworker.ipc.channel import Channel
from gworker.ipc.scoreboard import COUNTERS, Column, Row
from gworker.master.plan import Key

BACKOFF_FIRST, BACKOFF_MOST = 0.1, 30.0
"""Seconds until a slot whose process failed is filled again: the first is doubled each time."""

PROBE_ID = -1
"""The id of a process that fills no slot: it only loads the target and tells what that declares."""

HOOKS_ID = -2
"""The id of a process that fills no slot and runs the callbacks of `hooks`."""

TRIAL_ID = -3
"""The id of a process that fills no slot and tries the new code of an upgrade."""

PROVEN_SECONDS = 5.0
"""A process that served this long has proven itself: its death is no sign of a crash loop."""


class State(Enum):
    """The life of a process. BACKOFF is what a slot without one is in."""

    BOOTING = "booting"
    READY = "ready"
    RETIRING = "retiring"
    KILLED = "killed"


TRANSITIONS = {
    State.BOOTING: {State.READY, State.RETIRING, State.KILLED},
    State.READY: {State.RETIRING, State.KILLED},
    State.RETIRING: {State.KILLED},
    State.KILLED: set[State](),
}


@dataclass(eq=False, slots=True)
class Process:
    """One child, as the arbiter sees it. Times are monotonic seconds."""

    pid: int
    worker: str
    id: int
    generation: int
    started: float
    channel: Channel
    row_number: int
    row: Row
    key: Key | None = None
    """The listener that it serves."""
    settings: Settings | None = None
    """Those that it was started with, and lives under until it ends."""
    count: int = 0
    """How many processes its Worker has, as far as it has been told."""
    kin: str = ""
    """Whom it can hand its connections to: processes of its Worker for which this is the same; "":
    to nobody."""
    departing: bool = False
    """It retires, and has not said yet that all connections that can move at once have moved."""
    state: State = State.BOOTING
    deadline: float | None = None
    """When the arbiter loses patience in this state; None: never."""
    grace: float = 0.0
    """Seconds that it was given to leave, once it retires."""
    ready_at: float | None = None
    step: str = ""
    """What it does before it is ready (`booting`)."""
    line: str = ""
    """On which line of the user's code it stood when it was asked for its stacks."""
    reason: str = ""
    """Why it is being ended, if the arbiter does that."""
    dumped: bool = False
    """It was asked for its stacks because its event loop does not turn."""
    declared: bool = False
    """It is a probe, and has told what the target declares."""
    silent: bool = False
    """Its end of the channel is closed."""
    on_end: Callable[[Process, int, str], None] | None = None
    """Who is told of the end of a helper: the wait status, and that in words."""
    told: str = ""
    """What it said itself about why it failed."""
    traceback: str = ""
    cpu_percent: float = 0.0
    requests_per_second: float = 0.0
    sample: tuple[float, float, int] = (0.0, 0.0, 0)
    """(time, CPU seconds, requests) when the rates were last taken."""

    @property
    def is_probe(self) -> bool:
        """True for a process that only loads the target and tells what it declares."""
        return self.id == PROBE_ID

    @property
    def is_helper(self) -> bool:
        """True for a process that fills no slot."""
        return self.id < 0

    @property
    def is_hooks(self) -> bool:
        """True for a helper child that calls what `hooks` has for it."""
        return self.id == HOOKS_ID

    @property
    def label(self) -> str:
        """`NAME#ID`, as in the process title."""
        if self.is_hooks:
            return f"hooks of {self.worker}"
        return self.worker if self.is_helper else f"{self.worker}#{self.id}"

    def beat_age(self, now: float) -> float:
        """Seconds since the last beat of its event loop."""
        return now - self.row[Column.BEAT] / 1e9

    def to(self, state: State, deadline: float | None) -> None:
        """Change the state. Raises ValueError for a move that is not in the table."""
        if state not in TRANSITIONS[self.state]:
            raise ValueError(
                f"{self.label} (pid {self.pid}) cannot go from {self.state.value} to {state.value}"
            )
        self.state = state
        self.deadline = deadline
        # one that was late all the same is asked again when it is late with something else
        self.dumped = False


@dataclass(eq=False, slots=True)
class Slot:
    """A place that a process fills. `retry_at`: a monotonic time before which it stays empty."""

    worker: str
    id: int
    current: Process | None = None
    successor: Process | None = None
    leaving: list[Process] = field(default_factory=list)
    failures: int = 0
    retry_at: float = 0.0
    reason: str = ""
    """Why its last process failed."""
    wants_successor: bool = False
    totals: list[int] = field(default_factory=lambda: [0] * len(COUNTERS))
    """The counters of its dead processes."""

    @property
    def label(self) -> str:
        """`NAME#ID`."""
        return f"{self.worker}#{self.id}"

    def processes(self) -> list[Process]:
        """All that belong to it."""
        return [
            process
            for process in (self.current, self.successor, *self.leaving)
            if process is not None
        ]

    def is_due(self, now: float) -> bool:
        """True if it needs a process (or a successor), and may have one now."""
        if now < self.retry_at or self.successor is not None:
            return False
        return self.current is None or self.wants_successor

    def add(self, process: Process) -> None:
        """A process was started for this slot."""
        if self.current is None:
            self.current = process
        elif self.successor is None:
            self.successor = process
        else:
            raise ValueError(f"{self.label} has a process and a successor already")

    def became_ready(self, process: Process, now: float) -> Process | None:
        """`process` is ready; return the predecessor that it replaces, which is leaving from now
        on."""
        process.ready_at = now
        if process is not self.successor:
            return None
        predecessor, self.current, self.successor = self.current, process, None
        self.wants_successor = False
        if predecessor is not None:
            self.leaving.append(predecessor)
        return predecessor

    def let_go(self) -> list[Process]:
        """Nothing is to fill this slot any more: its processes are leaving; return those that were
        not yet."""
        going = [process for process in (self.current, self.successor) if process is not None]
        self.current = self.successor = None
        self.leaving += going
        self.wants_successor, self.failures, self.retry_at = False, 0, 0.0
        return going

    def remove(self, process: Process) -> None:
        """`process` is dead."""
        if process is self.current:
            self.current = self.successor
            self.successor = None
            self.wants_successor = False  # what takes its place is fresh
        elif process is self.successor:
            self.successor = None
        elif process in self.leaving:
            self.leaving.remove(process)
        for index, column in enumerate(COUNTERS):
            self.totals[index] += process.row[column]

    def failed(self, process: Process | None, now: float, reason: str) -> None:
        """A process died that should not have (None: it could not even be forked): wait before the
        next try."""
        proven = (
            process is not None
            and process.ready_at is not None
            and now - process.ready_at >= PROVEN_SECONDS
        )
        self.failures = 0 if proven else self.failures + 1
        self.reason = reason
        self.retry_at = now + backoff(self.failures)


def backoff(failures: int) -> float:
    """Seconds to wait after `failures` failures in a row."""
    if failures == 0:
        return 0.0
    return min(BACKOFF_FIRST * 2.0 ** min(failures - 1, 30), BACKOFF_MOST)
