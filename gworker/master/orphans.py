"""What user code has started, once the process that it ran in is dead: the arbiter ends it.

A process that leaves ends its own children. One that is killed cannot, so the arbiter inherits
them: it is a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER), the kernel gives it the children of each
of its own that dies, whatever session or group they are in. SIGTERM first, as a tracker of
resources has to clean up; what is still there a second later is killed. Their children come to the
arbiter in turn.

A daemon that has left its parent on purpose (fork(2) twice) comes while the process in which that
happened still lives. It is let be, as are children that there were before the arbiter, and what has
a session of its own (setsid(2)) when its parent leaves by itself.

`Orphans` owns the account of those that are being ended, and says which signals are due.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
from contextlib import suppress

from gworker.system import child_processes

log = logging.getLogger("gworker")

SET_CHILD_SUBREAPER = 36  # prctl(2)

TERM_SECONDS = 1.0  # between SIGTERM and SIGKILL, and between that and the next one

# After so many signals it is in uninterruptible sleep, and nothing waits for it.
MOST_KILLS = 5


def inherit() -> None:
    """From now on the descendants of this process come to it when they lose their parents."""
    if ctypes.CDLL(None, use_errno=True).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        reason = os.strerror(ctypes.get_errno())
        log.warning("what a killed process has started will outlive it: prctl: %s", reason)


class Orphans:
    """Those that are being ended. Times are monotonic seconds; `present`: the pids of all living
    children of this process that it has not forked; None: there is no descriptor left to look."""

    def __init__(self) -> None:
        self.let_be: set[int] = set()  # children that are not ended
        # By pid: when the next signal is due, and how many were sent.
        self._ending: dict[int, tuple[float, int]] = {}
        # The arguments of `due` when it could not look: it is called again with them.
        self.missed: tuple[str, bool] | None = None

    def __bool__(self) -> bool:
        return bool(self._ending)

    def next_deadline(self) -> float:
        if self.missed is not None:
            return float("inf")  # the next tick looks again
        return min((due for due, _ in self._ending.values()), default=float("inf"))

    def note(self, present: set[int] | None) -> None:
        """To be called about once a second, while nothing has died: what is there now is let
        be."""
        if present is not None and not self._ending and self.missed is None:
            self.let_be = present

    def due(
        self, present: set[int] | None, now: float, parent: str = "", orderly: bool = False
    ) -> list[tuple[int, signal.Signals]]:
        """The signals to send now, by pid.

        parent: the process that has just died. orderly: it has left by itself.
        """
        if present is None:
            self.missed = self.missed or (parent, orderly)
            return []
        self.missed = None
        self.let_be &= present
        if orderly:
            self.let_be |= {pid for pid in present if child_processes.has_left(pid)}
        if new := present.difference(self.let_be, self._ending):
            what = f"what {parent} has started" if parent else "what that has started"
            # One that has left by itself has ended its own. What is there are helpers of
            # multiprocessing, which are about to end.
            level = logging.DEBUG if orderly else logging.INFO
            names = ", ".join(map(child_processes.describe, sorted(new)))
            log.log(level, "%s is ended: %s", what, names)
            self._ending.update(dict.fromkeys(new, (now, 0)))
        self._ending = {pid: known for pid, known in self._ending.items() if pid in present}
        late = [(pid, sent) for pid, (due, sent) in self._ending.items() if due <= now]
        return [
            (pid, number) for pid, sent in late if (number := self._next_signal(pid, now, sent))
        ]

    def _next_signal(self, pid: int, now: float, sent: int) -> signal.Signals | None:
        if sent > MOST_KILLS:
            log.error("%s cannot be killed", child_processes.describe(pid))
            del self._ending[pid]
            self.let_be.add(pid)
            return None
        if sent == 1:
            log.info("%s has not ended by SIGTERM: it is killed", child_processes.describe(pid))
        self._ending[pid] = (now + TERM_SECONDS, sent + 1)
        return signal.SIGKILL if sent else signal.SIGTERM


def kill_all(parents: list[int]) -> None:
    """The arbiter itself is failing: whatever has come of processes `parents` goes with them."""
    for parent in parents:
        with suppress(OSError):  # there may be no descriptor left to look
            for pid in child_processes.descendants(parent):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
