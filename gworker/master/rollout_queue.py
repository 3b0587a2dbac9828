"""The start and the reloads of an instance: one at a time, and what is asked for meanwhile comes
after it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from gworker.master.control_connection import Call
from gworker.master.rollout import Rollout

if TYPE_CHECKING:
    from gworker.arbiter import Arbiter

log = logging.getLogger("gworker")

NO_RELOAD_YET = {"ok": None, "error": None, "seconds": None, "handed_over": 0, "closed": 0}


class Reloads:
    """Which rollout goes on, how the last one went, and who waits for the next."""

    def __init__(self, arbiter: Arbiter) -> None:
        self.current: Rollout | None = None
        self.last: dict[str, Any] = dict(NO_RELOAD_YET)
        self._arbiter = arbiter
        self._again: list[Call] | None = None
        """Who waits for the reload that follows the one that goes on; None: none follows."""
        self._is_counted = False
        """What has become of connections in the last reload is in the fleet's tally: it was not
        before an upgrade."""

    def request(self, call: Call | None = None) -> None:
        """Begin a reload, or note that one is to follow the start or the reload that goes on."""
        arbiter, calls = self._arbiter, [call] if call is not None else []
        if arbiter.is_stopping:
            log.warning("no reload: the instance is %s", arbiter.state)
            for refused in calls:
                refused.finish(1, error=f"the instance is {arbiter.state}")
        elif self.current is not None:
            self._again = (self._again or []) + calls
            for waiting in calls:
                waiting.send({"step": f"the instance is {arbiter.state}; the reload follows"})
        else:
            self.begin(calls)

    def begin(self, calls: list[Call]) -> None:
        """Begin the start, or a reload for `calls`."""
        first = self._arbiter.state == "starting"
        if not first:
            self.last = self.report()
            self._arbiter.enter("reloading")
        self.current = Rollout(self._arbiter, first, calls)
        self.current.begin()

    def ended(self, error: str | None, traceback: str, seconds: float) -> None:
        """The start or a reload is over; `error` says why it failed."""
        arbiter, self.current = self._arbiter, None
        if arbiter.state == "starting":
            arbiter.started_up(error, traceback)
        else:
            self.last.update(ok=error is None, error=error, seconds=round(seconds, 3))
            self._is_counted = True
            arbiter.enter("running")
            if error is None:
                arbiter.fleet.hooks.call_all("on_master_reload")
        arbiter.fleet.retiring.stop()
        if error is None:
            arbiter.reloader.succeeded()
        # What came meanwhile: counts first, so that the reload finds them.
        again, self._again = self._again, None
        if arbiter.is_stopping:
            for call in again or []:
                call.finish(1, error=f"the instance is {arbiter.state}")
            return
        arbiter.scaling.settled()
        if again is not None:
            self.begin(again)

    def report(self) -> dict[str, Any]:
        """How the last reload went. Connections may still move or be closed because of it, until
        the next begins."""
        if not self._is_counted or self._arbiter.state == "reloading":
            return dict(self.last)
        handed_over, closed = self._arbiter.fleet.retiring.counts()
        return {**self.last, "handed_over": handed_over, "closed": closed}

    def abandon(self, why: str) -> Rollout | None:
        """The instance is stopping; return what went on."""
        rollout, self.current = self.current, None
        if rollout is not None:
            rollout.calls += self._again or []
            rollout.abandon(why)
            self._again = None
            self._arbiter.scaling.settled()
        return rollout
