"""One rollout at a time, and what waits for its end: reloads, counts, an upgrade.

What an operator asks for while a start or a reload goes on is neither lost nor mixed into a plan
that may be refused. Tasks come before the reload that follows, so that it finds what they changed;
however many reloads are asked for meanwhile, one follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gworker.master.control_connection import Call
from gworker.master.handover_plan import HandoverStats
from gworker.master.rollout import Rollout

Report = dict[str, Any]

NO_RELOAD_YET: Report = {
    "ok": None, "error": None, "seconds": None, "handed_over": 0, "closed": 0
}  # fmt: skip


class RolloutQueue:
    """The rollout that goes on, how the last reload went, and what waits.

    handovers: what becomes of the connections of the processes that a rollout retires.
    """

    def __init__(self, handovers: HandoverStats) -> None:
        self.current: Rollout | None = None
        self._handovers = handovers
        self._last = dict(NO_RELOAD_YET)
        self._is_counted = False  # `handovers` counts the connections of the last reload
        self._tasks: list[Callable[[], None]] = []
        self._following: list[Call] | None = None  # None: no reload follows

    def when_idle(self, task: Callable[[], None]) -> None:
        """Do `task` now, or after the rollout that goes on."""
        if self.current is None:
            task()
        else:
            self._tasks.append(task)

    def follow(self, calls: Sequence[Call]) -> bool:
        """Let a reload for `calls` follow the rollout that goes on; False: none does."""
        if self.current is not None:
            self._following = [*(self._following or []), *calls]
        return self.current is not None

    def begin(self, rollout: Rollout) -> None:
        """`rollout` goes on from now on."""
        self._last, self._is_counted = self.report(), False
        self.current = rollout

    def end(self) -> Rollout | None:
        """No rollout goes on any more; return the one that did. Then comes `resume`."""
        rollout, self.current = self.current, None
        return rollout

    def resume(self) -> list[Call] | None:
        """Do the tasks that have waited; return the calls of the reload that follows, None: none
        does."""
        tasks, self._tasks = self._tasks, []
        following, self._following = self._following, None
        for task in tasks:
            task()
        return following

    def reload_ended(self, error: str | None, seconds: float) -> None:
        """The reload is over; `error` says why it failed."""
        self._last |= {"ok": error is None, "error": error, "seconds": round(seconds, 3)}
        self._is_counted = True

    def restore(self, last: Report) -> None:
        """`last`: how the last reload before an upgrade went."""
        self._last |= last

    def report(self) -> Report:
        """How the last reload went. Connections may still move or be closed because of it, until
        the next begins."""
        if not self._is_counted:
            return dict(self._last)
        handed_over, closed = self._handovers.counts()
        return {**self._last, "handed_over": handed_over, "closed": closed}
