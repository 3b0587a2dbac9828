"""One rollout at a time, and what waits for its end: reloads, counts, an upgrade.

What an operator asks for while a start or a reload goes on is neither lost nor mixed into a plan
that may be refused. Tasks come before the reload that follows, so that it finds what they changed;
however many reloads are asked for meanwhile, one follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gworker.master.control_connection import Call
from gworker.master.fleet import Fleet
from gworker.master.rollout import Rollout
from gworker.master.rollout_events import Ended, Event
from gworker.master.slots import Process, Role, Slot

Report = dict[str, Any]

NO_RELOAD_YET: Report = {
    "ok": None, "error": None, "seconds": None, "handed_over": 0, "closed": 0
}  # fmt: skip


class RolloutQueue:
    """The current rollout, the result of the last reload, and what waits.

    last: how the last reload before an upgrade went.
    """

    def __init__(self, fleet: Fleet, last: Report | None = None) -> None:
        self.current: Rollout | None = None
        self._fleet = fleet
        self._last = {**NO_RELOAD_YET, **(last or {})}
        self._is_counted = False  # the fleet counts the connections of the last reload
        self._tasks: list[Callable[[], None]] = []
        self._following: list[Call] | None = None  # None: no reload follows

    # ---- what waits

    def when_idle(self, task: Callable[[], None]) -> None:
        """Do `task` now, or after the current rollout."""
        if self.current is None:
            task()
        else:
            self._tasks.append(task)

    def follow(self, calls: Sequence[Call]) -> bool:
        """Let a reload for `calls` follow the current rollout; False: there is none."""
        if self.current is not None:
            self._following = [*(self._following or []), *calls]
        return self.current is not None

    def resume(self) -> list[Call] | None:
        """Do the waiting tasks; return the calls of the reload that follows, None: none does."""
        tasks, self._tasks = self._tasks, []
        following, self._following = self._following, None
        for task in tasks:
            task()
        return following

    # ---- the rollout

    def begin(self, calls: Sequence[Call], first: bool) -> Ended | None:
        """Begin the start, or a reload for `calls`. Its end, here and in `advance`, has to be
        followed by `resume`."""
        self._last, self._is_counted = self.report(), False
        self.current = Rollout(self._fleet, calls, first=first)
        return self._note_end(self.current, self.current.begin())

    def waits_for(self, process: Process) -> bool:
        """True if `process` has still to tell the current rollout what the target declares."""
        is_its_own = process.role is Role.PROBE or (
            process.role is Role.MOLD
            and self.current is not None
            and process.generation == self.current.generation
        )
        return is_its_own and not process.has_declared

    def advance(self, event: Event) -> Ended | None:
        """Give `event` to the current rollout, if there is one; return its end if that
        follows."""
        rollout = self.current
        return self._note_end(rollout, rollout.on(event)) if rollout is not None else None

    def _note_end(self, rollout: Rollout, ended: Ended | None) -> Ended | None:
        if ended is not None:
            if not rollout.first:
                self._last |= {
                    "ok": ended.error is None,
                    "error": ended.error,
                    "seconds": round(ended.seconds, 3),
                }
                self._is_counted = True
            self._fleet.handovers.is_counting = False
            self.current = None
        return ended

    def may_fill(self, slot: Slot) -> bool:
        return self.current is None or self.current.may_fill(slot)

    def abandon(self, why: str) -> Rollout | None:
        """The instance is stopping; return the current rollout."""
        rollout, self.current = self.current, None
        if rollout is not None:
            rollout.abandon(why)
        return rollout

    def report(self) -> Report:
        """How the last reload went. Connections may still move or be closed because of it, until
        the next begins."""
        if not self._is_counted:
            return dict(self._last)
        handed_over, closed = self._fleet.handovers.counts()
        return {**self._last, "handed_over": handed_over, "closed": closed}
