"""How children have ended: the texts for the log and `status`, and the last ends."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum

from gworker.ipc import boot_stage
from gworker.ipc.scoreboard import Column
from gworker.master import oom
from gworker.master.slots import Process, State

log = logging.getLogger("gworker")

KEEP = 50  # exits that `status` shows


def describe(status: int) -> str:
    """A wait(2) status as `exited 3` or `killed by signal 11 (SIGSEGV)`."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "real-time signal"
    return f"killed by signal {-code} ({name})"


class End(Enum):
    HELPER = "helper"  # it filled no slot
    LEFT = "left"  # it was to leave, and did
    FAILED = "failed"  # it was to leave, and ended in another way
    LOST = "lost"  # its slot needs another one


@dataclass(frozen=True, slots=True)
class Death:
    """A child is dead. status: as of wait(2)."""

    process: Process
    end: End
    status: int
    reason: str


def reason_of(process: Process, status: int, kills: oom.OomKills) -> str:
    """Why `process` has ended: what it has said itself, or else its wait status and what the
    arbiter knows."""
    if process.failure:
        return process.failure
    reason = describe(status)
    if process.kill_reason:
        return f"{process.kill_reason}: {reason}"
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and kills.take():
        reason = oom.REASON
    if process.state is State.BOOTING:
        return boot_stage.crash(process.step, process.settings.target, process.worker, reason)
    return reason


def _record(process: Process, now: float) -> str:
    # What a process that has served was doing, as far as the scoreboard knows.
    if process.ready_at is None:
        return ""
    connections, requests = process.row[Column.CONNECTIONS], process.row[Column.REQUESTS]
    return (
        f", after {now - process.ready_at:.1f} s in service, with {connections} connections, "
        f"{requests} requests served"
    )


@dataclass(frozen=True, slots=True)
class Exit:
    """One process's end. `time` is seconds since the epoch."""

    worker: str
    id: int
    pid: int
    reason: str
    time: float


def report(death: Death, exits: deque[Exit], is_told: bool, now: float) -> None:
    """Log the end of a process of a slot, and add one that was not asked for to `exits`. is_told:
    its traceback is told elsewhere."""
    process = death.process
    if death.end is End.LEFT:
        log.info("%s (pid %d) has left", process.label, process.pid)
    if death.end not in (End.FAILED, End.LOST):
        return
    exits.append(Exit(process.worker, process.id, process.pid, death.reason, time.time()))
    log.error("%s (pid %d) %s%s", process.label, process.pid, death.reason, _record(process, now))
    if process.traceback and not is_told:
        log.error("%s", process.traceback.rstrip())
