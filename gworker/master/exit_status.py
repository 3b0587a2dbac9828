"""How a child ended, in words that a person who was paged can use."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

KEEP = 50
"""Exits that `status` shows."""


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


@dataclass(frozen=True, slots=True)
class Exit:
    """One process's end. `time` is seconds since the epoch."""

    worker: str
    id: int
    pid: int
    reason: str
    time: float


class Exits:
    """The last ends that were not ordered by anybody."""

    def __init__(self) -> None:
        self._kept: deque[Exit] = deque(maxlen=KEEP)

    def add(self, worker: str, number: int, pid: int, reason: str) -> None:
        """Remember one that has just ended."""
        self.keep(Exit(worker, number, pid, reason, time.time()))

    def keep(self, end: Exit) -> None:
        """Remember one."""
        self._kept.append(end)

    def rows(self) -> list[dict[str, Any]]:
        """As `status --json` shows them."""
        return [asdict(kept) for kept in self._kept]
