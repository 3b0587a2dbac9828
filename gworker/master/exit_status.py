"""How children have ended: the texts for the log and `status`, and the last ends."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from gworker.ipc import boot_stage
from gworker.ipc.scoreboard import Column
from gworker.master.slots import Process, Role, State

log = logging.getLogger("gworker")

KEEP = 50  # exits that `status` shows

# Seconds. A victim that was counted more than two windows ago explains no death: it was another
# process of the group.
WINDOW = 5.0


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


class OomKills:
    """Whether the kernel has killed a process because memory ran out: the count of the control
    group of this process. A death of SIGKILL takes one.

    A process that the OOM killer ends dies of SIGKILL like any other. The kernel counts its victims
    in `memory.events` of their control group (cgroup v2, Documentation/admin-guide/cgroup-v2.rst),
    or in `memory.oom_control` (v1). Without such a file nothing is claimed.
    """

    def __init__(
        self, root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
    ) -> None:
        self._file = _find(root, own)
        # When the window before this one began, and when this one did.
        self._counts = [self._read()] * 2
        self._began = 0.0

    def poll(self, now: float) -> None:
        """Forget old victims. Once a second or so: it reads the file when a window is over."""
        if now - self._began >= WINDOW:
            self._began = now
            self._counts = [self._counts[1], self._read()]

    def take(self) -> bool:
        """True if a process that has just died of SIGKILL was a victim; each explains one death."""
        if self._read() <= self._counts[0]:
            return False
        self._counts = [self._counts[0] + 1, max(self._counts[1], self._counts[0] + 1)]
        return True

    def _read(self) -> int:
        try:
            text = self._file.read_text() if self._file is not None else ""
        except OSError:
            return 0
        found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else 0


def _find(root: Path, own: Path) -> Path | None:
    # The file with the count. Lines of /proc/PID/cgroup are `ID:CONTROLLERS:PATH` (cgroups(7)); v2
    # has `0::PATH`.
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
        groups = {name: path.lstrip("/") for _, names, path in lines for name in names.split(",")}
    except (OSError, ValueError):
        return None
    # In a container the path may be the host's; then our group is what is mounted.
    if "memory" in groups:
        mounts, name = [root / "memory" / groups["memory"], root / "memory"], "memory.oom_control"
    else:
        mounts, name = [root / groups.get("", ""), root], "memory.events"
    return next((mount / name for mount in mounts if (mount / name).is_file()), None)


def reason_of(process: Process, status: int, kills: OomKills) -> str:
    """Why `process` has ended: what it has said itself, or else its wait status and what the
    arbiter knows."""
    if process.failure:
        return process.failure
    reason = describe(status)
    if process.kill_reason:
        return f"{process.kill_reason}: {reason}"
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and kills.take():
        reason = "out of memory: killed by the kernel"
    if process.state is State.BOOTING and process.role is not Role.BROKER:
        return boot_stage.crash(process.step, process.settings.target, process.worker, reason)
    return reason


def _record(process: Process, now: float) -> str:
    # What a process that has served was doing, as far as the scoreboard knows.
    if process.ready_at is None:
        return ""
    seconds = f", after {now - process.ready_at:.1f} s in service"
    if process.role is not Role.WORKER:
        return seconds
    connections, requests = process.row[Column.CONNECTIONS], process.row[Column.REQUESTS]
    return f"{seconds}, with {connections} connections, {requests} requests served"


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
    exits.append(
        Exit(process.worker or process.label, process.id, process.pid, death.reason, time.time())
    )
    log.error("%s (pid %d) %s%s", process.label, process.pid, death.reason, _record(process, now))
    if process.traceback and not is_told:
        log.error("%s", process.traceback.rstrip())
