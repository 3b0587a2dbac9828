"""The account of processes: their roles and states, the slots that they fill, when to try again.

Nothing here forks, signals or reads a clock: pids and times are given. A slot is a place with a
stable id; its `current` process serves it, its `successor` is booting to take over, and those that
are `leaving` finish what they have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from gworker.config.settings import Settings
from gworker.ipc.channel import Channel
from gworker.ipc.scoreboard import COUNTERS, Column, Row
from gworker.master.plan import Key, Place

# Seconds until a slot whose process failed is filled again: the first is doubled each time.
BACKOFF_FIRST, BACKOFF_MOST = 0.1, 30.0

# A process that served this long has proven itself: its death is no sign of a crash loop.
PROVEN_SECONDS = 5.0


class Role(Enum):
    WORKER = "worker"  # it fills a slot, and serves
    PROBE = "probe"  # it loads the target and tells what that declares
    MOLD = "mold"  # it does the same, and stays: worker processes are forked from it
    CALLBACKS = "callbacks"  # it makes calls of callbacks of the instance, for one Worker
    TRIAL = "trial"  # it tries the new code of an upgrade
    BROKER = "broker"  # messages between the others go through it
    WATCHER = "watcher"  # it watches files for --reload


class State(Enum):
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
    role: Role
    worker: str  # the Worker that it serves or whose callbacks it calls; "" for other roles
    id: int  # the number of its slot; 0 for a process that fills none
    generation: int
    settings: Settings  # those that it was started with, and lives under until it ends
    started: float
    channel: Channel
    row_number: int
    row: Row
    key: Key | None = None  # the listener that it serves
    count: int = 0  # how many processes its Worker has, as far as it has been told
    # It can hand connections over to processes of its Worker for which this is the same; "": to
    # none.
    compatibility: str = ""
    state: State = State.BOOTING
    deadline: float | None = None  # when it is overdue in this state; None: never
    # It was overdue, and has until `deadline` to write its stacks. Then it is killed.
    stacks_requested: bool = False
    grace: float = 0.0  # seconds that it was given to leave, once it retires
    ready_at: float | None = None
    has_declared: bool = False  # a probe that has told what the target declares
    step: str = ""  # what it does before it is ready (`ipc.boot_stage`)
    line: str = ""  # on which line of the user's code it stood when it was asked for its stacks
    kill_reason: str = ""  # why the arbiter ends it
    failure: str = ""  # what it has said itself about why it failed
    traceback: str = ""
    max_age: float | None = None  # seconds until it is recycled; 0: never; None: not drawn yet
    rss: int = 0  # bytes at the last sample, if there is a limit
    samples_above: int = 0  # how many samples in a row were above the limit
    postponed: str = ""  # why it wants a successor, while a reload may bring it one
    cpu_percent: float = 0.0
    requests_per_second: float = 0.0
    # (time, CPU seconds, requests) when the rates were last taken.
    sample: tuple[float, float, int] = (0.0, 0.0, 0)

    @property
    def label(self) -> str:
        """`NAME#ID`, as in the process title; for one that fills no slot, what it is."""
        return {
            Role.WORKER: f"{self.worker}#{self.id}",
            Role.CALLBACKS: f"hooks of {self.worker}",
            Role.TRIAL: "upgrade",
        }.get(self.role, self.role.value)

    def beat_age(self, now: float) -> float:
        return now - self.row[Column.BEAT] / 1e9

    def to(self, state: State, deadline: float | None) -> None:
        """Change the state. Raises ValueError for a move that is not in the table."""
        if state not in TRANSITIONS[self.state]:
            raise ValueError(
                f"{self.label} (pid {self.pid}) cannot go from {self.state.value} to {state.value}"
            )
        self.state = state
        self.deadline = deadline
        self.stacks_requested = False  # when it is overdue in this state, it is asked once more


@dataclass(eq=False, slots=True)
class Slot:
    worker: str
    id: int
    current: Process | None = None
    successor: Process | None = None
    leaving: list[Process] = field(default_factory=list)
    failures: int = 0  # in a row
    retry_at: float = 0.0  # monotonic time before which no process is started for it
    reason: str = ""  # why its last process failed
    # `current` is to be replaced: a successor that fails is tried again.
    wants_successor: bool = False
    # The counters of its dead processes.
    totals: list[int] = field(default_factory=lambda: [0] * len(COUNTERS))

    @property
    def label(self) -> str:
        return f"{self.worker}#{self.id}"

    @property
    def place(self) -> Place:
        return (self.worker, self.id)

    @property
    def is_being_replaced(self) -> bool:
        """True while its process is to have a successor, or a predecessor still leaves."""
        return self.wants_successor or self.successor is not None or bool(self.leaving)

    def processes(self) -> list[Process]:
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

    def promote(self, process: Process, now: float) -> Process | None:
        """`process` is ready: it serves the slot. Return the predecessor that it replaces, which
        is leaving from now on."""
        process.ready_at = now
        if process is not self.successor:
            return None
        predecessor, self.current, self.successor = self.current, process, None
        self.wants_successor = False
        if predecessor is not None:
            self.leaving.append(predecessor)
        return predecessor

    def release_all(self) -> list[Process]:
        """Nothing is to fill this slot any more: its processes leave. Return those that were not
        leaving yet."""
        going = [process for process in (self.current, self.successor) if process is not None]
        self.current = self.successor = None
        self.leaving += going
        self.wants_successor, self.failures, self.retry_at = False, 0, 0.0
        return going

    def tell_no_successor(self) -> None:
        """The process that waits for its successor serves on until there is one."""
        if self.wants_successor and self.current is not None and self.current.state is State.READY:
            self.current.channel.send({"do": "serve_on"})

    def remove(self, process: Process) -> None:
        if process is self.current:
            self.current = self.successor
            self.successor = None
            self.wants_successor = False  # the process in its place is fresh
        elif process is self.successor:
            self.successor = None
        elif process in self.leaving:
            self.leaving.remove(process)
        for index, column in enumerate(COUNTERS):
            self.totals[index] += process.row[column]

    def back_off(self, process: Process | None, now: float, reason: str) -> None:
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
