"""Bringing a generation into service: the first at the start, each further one at a reload.

    PROBING    a probe child loads the target and declares its Workers; new listeners are bound
    REPLACING  at the start: every slot is filled at once
               at a reload: the first slot's successor boots and is ready; only then does its
               predecessor retire; then slot by slot
    SETTLING   every process is of this generation; connections are still on their way

A failure before the first retirement changes nothing: the old generation goes on serving, and each
client that asked for the reload gets the reason.

`on` takes what happens, and returns the end of the rollout if that follows. A rollout works through
the fleet alone: it calls nothing above that.
"""

from __future__ import annotations

import logging
import traceback as tracebacks
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, ClassVar

from gworker.config.sources import reread
from gworker.errors import ConfigError
from gworker.ipc.declaration import Declaration
from gworker.master.control_connection import Call
from gworker.master.fleet import Fleet
from gworker.master.handover_plan import HandoverStats, Survey
from gworker.master.plan import Key, Place, Plan, make_plan
from gworker.master.rollout_events import (
    Declared,
    Ended,
    Event,
    HandedOver,
    ProbeFailed,
    ProcessLeft,
    SlotFailed,
    SlotReady,
    Surveyed,
)
from gworker.master.slots import Slot
from gworker.master.slots import State as ProcessState
from gworker.master.worker_privileges import check_worker, notify_kept

log = logging.getLogger("gworker")

LAST = 2  # the turn of slots whose processes are kept


class State(Enum):
    PROBING = auto()
    REPLACING = auto()
    SETTLING = auto()


class Rollout:
    """One start or one reload. `calls` get every step, and the result.

    first: this is the start.
    """

    def __init__(
        self,
        fleet: Fleet,
        calls: Sequence[Call] = (),
        *,
        first: bool = False,
    ) -> None:
        self.first = first
        self.state = State.PROBING
        self.generation = fleet.generation + 1  # in force with the first retirement
        self.survey = Survey(self._step)
        self._calls = list(calls)
        self._fleet = fleet
        self._began = fleet.clock()
        self._settings = fleet.settings
        self._plan = Plan()
        self._bound: set[Key] = set()
        self._queue: deque[Place] = deque()
        self._waiting: set[Slot] = set()
        self._spawned = False  # a process of this generation was started for what is waited for
        self._added: list[Slot] = []  # for places that the plan in force does not have
        self._total = 0
        self._ready = 0
        self._committed = False

    def begin(self) -> Ended | None:
        """Read the settings again, at a reload, and start the probe."""
        self._fleet.handovers = HandoverStats(is_counting=True)
        return self._attempt(self._start_probe)

    def on(self, event: Event) -> Ended | None:
        handler = self.HANDLERS.get((self.state, type(event)))
        return handler(self, event) if handler is not None else None

    def may_fill(self, slot: Slot) -> bool:
        """False while it is for the rollout to fill `slot`."""
        return not self.first and slot not in self._waiting

    def abandon(self, why: str) -> None:
        for call in self._calls:
            call.finish(1, error=why)

    # ---- PROBING

    def _attempt(self, step: Callable[[], None]) -> Ended | None:
        # Do what depends on files and on user code: no fault in it may end the service.
        try:
            step()
        except ConfigError as error:
            return self._failed(str(error))
        except Exception as error:
            return self._failed(f"{type(error).__name__}: {error}", tracebacks.format_exc())
        return None

    def _start_probe(self) -> None:
        if not self.first:
            self._settings, changed = reread(self._settings)
            if changed:
                self._step(f"settings: {', '.join(changed)}")
            if pending := self._settings.pending:
                self._step(f"restart needed for: {', '.join(pending)}", logging.WARNING)
        self._step("loading the target")
        try:
            if self._settings.preload:
                self._fleet.molds.start(self.generation, self._settings)
            else:
                self._fleet.spawner.probe(self._settings)
        except OSError as error:
            raise ConfigError(f"fork: {error.strerror}") from None

    def _plan_for(self, declarations: list[Declaration]) -> None:
        fleet = self._fleet
        self._plan = make_plan(declarations, self._settings.workers, fleet.plan)
        for declared in declarations:
            check_worker(declared, self._settings)
        before = set(fleet.listeners.held)
        fleet.listeners.open_for(self._plan)
        self._bound = fleet.listeners.held.keys() - before

    def _declared(self, event: Declared) -> Ended | None:
        if ended := self._attempt(lambda: self._plan_for(event.declarations())):
            return ended
        self._step(", ".join(f"{name} × {count}" for name, count in self._plan.counts.items()))
        self.state = State.REPLACING
        if self.first:
            self._commit(whole=True)
            return self._fill_all()
        self._queue.extend(sorted(self._plan.places(), key=self._turn_of))
        self._total = sum(self._turn_of(place) < LAST for place in self._queue)
        self.survey.begin(self._fleet.slots.values(), self._plan, self._settings)
        return self._next()

    def _probe_failed(self, event: ProbeFailed) -> Ended:
        return self._failed(event.reason, event.traceback)

    def _turn_of(self, place: Place) -> int:
        # First what replaces something, so that a fault shows before anything is changed; then what
        # is new.
        slot = self._fleet.slots.get(place)
        if slot is None or slot.current is None:
            return 1
        return LAST if self._is_kept(slot) else 0

    def _is_kept(self, slot: Slot) -> bool:
        return slot.current is not None and not self._plan.declarations[slot.worker].reloadable

    # ---- REPLACING

    def _commit(self, whole: bool) -> None:
        # Something of the old generation is replaced: there is no way back. whole: no slot waits
        # for its replacement.
        self._committed = True
        self.survey.announce()
        self._fleet.commit(self._plan, self.generation, self._settings)
        if whole:
            self._fleet.reconcile_slots()

    def _fill_all(self) -> Ended | None:
        slots = [self._fleet.slots[place] for place in self._plan.places()]
        self._waiting = set(slots)
        self._total = len(slots)
        for slot in slots:
            if ended := self._spawn(slot):
                return ended
        return None

    def _next(self) -> Ended | None:
        # Replace the next slot that needs it; at the end, settle.
        while self._queue:
            slot = self._slot(self._queue.popleft())
            current = slot.current
            if current is not None and self._is_kept(slot):
                notify_kept(current, self._plan.declarations[slot.worker].files)
                self._step(f"{slot.label} is not reloadable: told, and kept (pid {current.pid})")
                continue
            # Its process may have died meanwhile; then the replacement has loaded the new code.
            self._spawned = current is not None and current.generation == self.generation
            if self._spawned and current is not None and current.state is ProcessState.READY:
                self._count(slot)
                continue
            self._waiting = {slot}
            if not self._spawned and slot.successor is None:
                return self._spawn(slot)
            return None
        return self._settle()

    def _slot(self, place: Place) -> Slot:
        slot = self._fleet.slots.get(place)
        if slot is None:
            slot = self._fleet.slots[place] = Slot(*place)
            self._added.append(slot)
        return slot

    def _spawn(self, slot: Slot) -> Ended | None:
        self._spawned = True
        refused = self._fleet.spawn(slot, self._plan, self.generation, self._settings, self.first)
        return self._slot_failed(SlotFailed(slot, refused)) if refused else None

    def _slot_ready(self, event: SlotReady) -> Ended | None:
        slot = event.slot
        if slot not in self._waiting:
            return None
        if event.process.generation != self.generation:
            # It was booting with the old code as the reload began.
            return self._spawn(slot) if not self._spawned and slot.successor is None else None
        self._waiting.discard(slot)
        self._count(slot)
        if self.first:
            return self._settle() if not self._waiting else None
        if not self._committed and slot not in self._added:
            self._commit(whole=False)
        return self._next()

    def _count(self, slot: Slot) -> None:
        self._ready += 1
        assert slot.current is not None
        self._step(f"{slot.label} is ready (pid {slot.current.pid}) [{self._ready}/{self._total}]")

    def _slot_failed(self, event: SlotFailed) -> Ended | None:
        slot = event.slot
        if slot not in self._waiting:
            return None
        if not self._spawned:
            return self._spawn(slot) if slot.successor is None else None
        if any(
            each.generation == self.generation and each.state is ProcessState.BOOTING
            for each in slot.processes()
        ):
            return None
        return self._failed(f"{slot.label}: {event.reason}", event.traceback)

    def _settle(self) -> Ended | None:
        self.state = State.SETTLING
        if not self.first:
            self._commit(whole=True)
        return self._end_if_settled()

    # ---- SETTLING, and the ends

    def _surveyed(self, event: Surveyed) -> None:
        self.survey.answered(event.process, event.staying)

    def _handed_over(self, event: HandedOver) -> Ended | None:
        self.survey.found_later(event.process, event.staying)
        return self._end_if_settled() if self.state is State.SETTLING else None

    def _end_if_settled(self, event: Event | None = None) -> Ended | None:
        handovers, now = self._fleet.handovers, self._fleet.clock()
        if handovers.is_handing_over(now):
            return None
        seconds = now - self._began
        if not self.first:
            told = _told(*handovers.counts())
            self._step(f"generation {self.generation} serves after {seconds:.1f} s{told}")
        for call in self._calls:
            call.finish(0)
        return Ended(None, "", seconds)

    def _failed(self, reason: str, traceback: str = "") -> Ended:
        # Give up: undo what can be undone, and say why.
        note = ""
        if not self.first:
            if self._committed:
                self._fleet.reconcile_slots()
                reason += f" ({self._ready} of {self._total} were replaced before)"
            else:
                self._undo()
                note = f"nothing has changed: generation {self.generation - 1} serves on"
            told = "\n" + traceback.rstrip() if traceback else ""
            log.error("reload refused: %s%s", reason, told)
        for call in self._calls:
            call.finish(1, error=reason, traceback=traceback, note=note)
        return Ended(reason, traceback, self._fleet.clock() - self._began)

    def _undo(self) -> None:
        for slot in self._waiting:
            if slot.current is not None:
                # It goes on serving; that its successor failed does not count.
                slot.failures, slot.retry_at = 0, 0.0
        for slot in self._added:
            self._fleet.release(slot)
        self._fleet.listeners.keep_only(self._fleet.listeners.held.keys() - self._bound)
        self._fleet.molds.keep(self._fleet.generation, self._fleet.settings)

    def _step(self, text: str, level: int = logging.INFO) -> None:
        if not self.first:
            log.log(level, "reload: %s", text)
        for call in self._calls:
            call.send({"step": text})

    # What is done about an event in a state; what is not here changes nothing.
    HANDLERS: ClassVar[dict[tuple[State, type], Callable[[Any, Any], Ended | None]]] = {
        (State.PROBING, Declared): _declared,
        (State.PROBING, ProbeFailed): _probe_failed,
        (State.PROBING, HandedOver): _handed_over,
        (State.REPLACING, SlotReady): _slot_ready,
        (State.REPLACING, SlotFailed): _slot_failed,
        (State.REPLACING, Surveyed): _surveyed,
        (State.REPLACING, HandedOver): _handed_over,
        (State.SETTLING, Surveyed): _surveyed,
        (State.SETTLING, HandedOver): _handed_over,
        (State.SETTLING, ProcessLeft): _end_if_settled,
    }


def _told(handed_over: int, closed: int) -> str:
    if not handed_over and not closed:
        return ""
    moved = "1 connection was" if handed_over == 1 else f"{handed_over} connections were"
    return f"; {moved} handed over, {closed} closed"
