"""Changing the number of processes: `gworker scale`, TTIN and TTOU.

What an operator has asked for is remembered over reloads (`asked`), and waits while a start or a
reload goes on, so that it is neither lost nor mixed into a plan that may be refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gworker.errors import ConfigError

if TYPE_CHECKING:
    from gworker.arbiter import Arbiter

log = logging.getLogger("gworker")


class Scaling:
    """The counts that an operator has set."""

    def __init__(self, arbiter: Arbiter) -> None:
        self.asked: dict[str, int] = {}
        """By Worker."""
        self._arbiter = arbiter
        self._postponed: list[Callable[[], None]] = []

    def when_settled(self, change: Callable[[], None]) -> None:
        """Do `change` now, or after the start or reload that goes on."""
        if self._arbiter.reloads.current is None:
            change()
        else:
            self._postponed.append(change)

    def settled(self) -> None:
        """Do what had to wait."""
        postponed, self._postponed = self._postponed, []
        for change in postponed:
            change()

    def add_to_all(self, step: int) -> None:
        """`step` processes more for every Worker."""
        self.when_settled(lambda: self._add_to_all(step))

    def _add_to_all(self, step: int) -> None:
        for name, count in self._arbiter.fleet.plan.counts.items():
            try:
                self.set(name, count + step)
            except ConfigError as error:
                log.warning("%s", error)

    def forget_others(self, counts: Mapping[str, int]) -> None:
        """Forget what does not hold any more, because the code now declares another count."""
        self.asked = {
            name: count for name, count in self.asked.items() if counts.get(name) == count
        }

    def set(self, name: str, count: int) -> None:
        """Set the number of processes of a Worker. Raises ConfigError."""
        if self._arbiter.is_stopping:
            raise ConfigError(f"the instance is {self._arbiter.state}")
        fleet = self._arbiter.fleet
        plan = fleet.plan.with_count(name, count)
        fleet.listeners.open_for(plan)
        fleet.plan = plan
        self.asked[name] = count
        fleet.match_slots()
        log.info("%s has %d process%s from now on", name, count, "" if count == 1 else "es")
