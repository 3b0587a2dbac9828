"""Bringing a generation into service: the first at the start, each further one at a reload.

    probe child loads the target and tells what it declares
    → listeners that are new are bound
    → at the start: every slot is filled at once
      at a reload: the first slot's successor boots and is ready; only then does its predecessor
      retire; then slot by slot

Whatever fails before the first retirement changes nothing: the old generation goes on serving, and
who asked for the reload is told why.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gworker.control import Call
from gworker.errors import ConfigError
from gworker.plan import Key, Place, Plan, make_plan
from gworker.slots import Slot
from gworker.worker import Declaration

if TYPE_CHECKING:
    from gworker.arbiter import Arbiter

log = logging.getLogger("gworker")


class Rollout:
    """One start or one reload. `calls` are told every step, and the end."""

    def __init__(self, host: Arbiter, first: bool, calls: Sequence[Call] = ()) -> None:
        self.first = first
        self.calls = list(calls)
        self._host = host
        self._began = time.monotonic()
        self._plan = Plan()
        self._bound: set[Key] = set()
        self._queue: deque[Place] = deque()
        self._waiting: set[Slot] = set()
        self._total = 0
        self._replaced = 0

    @property
    def committed(self) -> bool:
        """True once something of the old generation was retired: there is no way back."""
        return self._replaced > 0

    def begin(self) -> None:
        """Start the probe."""
        self._step("loading the target")
        try:
            self._host.fleet.spawn_probe()
        except OSError as error:
            self.failed(f"fork: {error.strerror}")

    def declared(self, found: list[dict[str, Any]]) -> None:
        """The probe has loaded the target."""
        fleet = self._host.fleet
        before = fleet.listeners.keys()
        try:
            declarations = [Declaration(**fields) for fields in found]
            self._plan = make_plan(declarations, self._host.settings.workers, fleet.plan, self._host.asked)
            fleet.listeners.open_for(self._plan)
        except ConfigError as error:
            self.failed(str(error))
            return
        self._bound = fleet.listeners.keys() - before
        fleet.generation += 1
        places = self._plan.places()
        self._total = len(places)
        self._step(f"{', '.join(f'{name} × {count}' for name, count in self._plan.counts.items())}")
        if self.first:
            self._fill_all()
        else:
            self._queue.extend(places)
            self._next()

    def _fill_all(self) -> None:
        fleet = self._host.fleet
        fleet.plan = self._plan
        fleet.match_slots()
        self._waiting = set(fleet.slots.values())
        for slot in list(fleet.slots.values()):
            if self._host.rollout is self:
                fleet.spawn(slot, self._plan)

    def _next(self) -> None:
        """Replace the next slot that needs it; at the end, finish."""
        fleet = self._host.fleet
        while self._queue:
            place = self._queue.popleft()
            slot = fleet.slots.setdefault(place, Slot(*place))
            current = slot.current
            if current is not None and current.generation == fleet.generation:
                continue  # it died meanwhile, and its replacement has loaded the new code
            if current is not None and not self._plan.declarations[place[0]].reloadable:
                current.channel.send({"do": "reload"})
                self._step(f"{slot.label} is not reloadable: told, and kept (pid {current.pid})")
                continue
            self._waiting = {slot}
            if slot.successor is None:
                fleet.spawn(slot, self._plan)
            return
        self._finish()

    def may_fill(self, slot: Slot) -> bool:
        """False while it is for the rollout to fill `slot`."""
        return not self.first and slot not in self._waiting

    def ready(self, slot: Slot) -> None:
        """A process of `slot` has become ready."""
        if slot not in self._waiting:
            return
        self._waiting.discard(slot)
        self._replaced += 1
        assert slot.current is not None
        self._step(f"{slot.label} is ready (pid {slot.current.pid}) [{self._replaced}/{self._total}]")
        if self.first:
            if not self._waiting:
                self._finish()
            return
        self._host.fleet.plan = self._plan
        self._next()

    def slot_failed(self, slot: Slot, reason: str, traceback: str) -> bool:
        """A process of `slot` could not be started, or died. True if that is the end of this rollout."""
        booting = slot.successor is not None or (slot.current is not None and slot.current.ready_at is None)
        if slot not in self._waiting or booting:
            return False
        self.failed(f"{slot.label}: {reason}", traceback)
        return True

    def failed(self, reason: str, traceback: str = "") -> None:
        """Give up: undo what can be undone, and say why."""
        if not self.first:
            if self.committed:
                reason += f" ({self._replaced} of {self._total} were replaced before)"
            else:
                self._undo()
            log.error("reload refused: %s%s", reason, "\n" + traceback.rstrip() if traceback else "")
        for call in self.calls:
            call.finish(1, error=f"{traceback}{reason}")
        self._host.rollout_ended(reason, traceback, time.monotonic() - self._began)

    def _undo(self) -> None:
        fleet = self._host.fleet
        for slot in self._waiting:
            slot.failures, slot.retry_at = 0, 0.0
            if not slot.processes() and (slot.worker, slot.id) not in fleet.plan.places():
                del fleet.slots[slot.worker, slot.id]
        if self._total:
            fleet.generation -= 1
        fleet.listeners.keep_only(fleet.listeners.keys() - self._bound)

    def _finish(self) -> None:
        host, fleet, seconds = self._host, self._host.fleet, time.monotonic() - self._began
        if not self.first:
            fleet.plan = self._plan
            host.asked = {name: n for name, n in host.asked.items() if self._plan.counts.get(name) == n}
            fleet.match_slots()
            fleet.close_unused_listeners()
            self._step(f"generation {fleet.generation} serves after {seconds:.1f} s")
        for call in self.calls:
            call.finish(0)
        host.rollout_ended(None, "", seconds)

    def abandon(self, why: str) -> None:
        """The instance is stopping."""
        for call in self.calls:
            call.finish(1, error=why)

    def _step(self, text: str) -> None:
        if not self.first:
            log.info("reload: %s", text)
        for call in self.calls:
            call.send({"step": text})
