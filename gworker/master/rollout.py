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
import os
import time
import traceback as tracebacks
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gworker.config.sources import renew
from gworker.errors import ConfigError
from gworker.ipc.declaration import Declaration
from gworker.master import handover_plan
from gworker.master.control_connection import Call
from gworker.master.handover_survey import Survey
from gworker.master.plan import Key, Place, Plan, make_plan
from gworker.master.slots import Process, Slot, State
from gworker.master.worker_privileges import check_worker
from gworker.tls.key_files import pack

if TYPE_CHECKING:
    from gworker.arbiter import Arbiter

log = logging.getLogger("gworker")

LAST = 2
"""Of the turns that slots take: those whose processes are kept."""


class Rollout:
    """One start or one reload. `calls` are told every step, and the end."""

    def __init__(self, host: Arbiter, first: bool, calls: Sequence[Call] = ()) -> None:
        self.first = first
        self.calls = list(calls)
        self.generation = host.fleet.generation + 1
        """The number of what this rollout starts; it comes into force with the first retirement."""
        self._host = host
        self._settings = host.settings
        self._began = time.monotonic()
        self._plan = Plan()
        self._bound: set[Key] = set()
        self._queue: deque[Place] = deque()
        self._waiting: set[Slot] = set()
        self._spawned = False
        """A process of this generation was started for the slot that is waited for."""
        self._added: list[Slot] = []
        """Slots for places that the plan in force does not have."""
        self.survey = Survey(self._step)
        self._total = 0
        self._ready = 0
        self._committed = False
        self._replaced = False
        """Every process is of this generation; connections may still be on their way."""

    def begin(self) -> None:
        """Read the settings again, at a reload, and start the probe."""
        self._host.fleet.retiring.start()
        try:
            self._renew()
            self._step("loading the target")
            self._host.fleet.spawn_probe(self._settings)
        except ConfigError as error:
            self.failed(str(error))
        except OSError as error:
            self.failed(f"fork: {error.strerror}")
        except Exception as error:  # a file that nobody has thought of must not end the service
            self.failed(f"{type(error).__name__}: {error}", tracebacks.format_exc())

    def _renew(self) -> None:
        if not self.first:
            self._settings, changed = renew(self._settings)
            if changed:
                self._step(f"settings: {', '.join(changed)}")
            if pending := self._settings.pending:
                self._step(f"restart needed for: {', '.join(pending)}", logging.WARNING)

    def declared(self, found: list[dict[str, Any]]) -> None:
        """The probe has loaded the target."""
        fleet = self._host.fleet
        before = fleet.listeners.keys()
        try:
            self._plan = make_plan(
                _read(found), self._settings.workers, fleet.plan, self._host.scaling.asked
            )
            for declared in self._plan.declarations.values():
                check_worker(declared, self._settings)
            fleet.listeners.open_for(self._plan)
        except ConfigError as error:
            self.failed(str(error))
            return
        except (
            Exception
        ) as error:  # the declaration comes from user code: nothing in it may end the arbiter
            self.failed(f"{type(error).__name__}: {error}", tracebacks.format_exc())
            return
        self._bound = fleet.listeners.keys() - before
        self._step(", ".join(f"{name} × {count}" for name, count in self._plan.counts.items()))
        if self.first:
            self._fill_all()
        else:
            self._queue.extend(sorted(self._plan.places(), key=self._turn_of))
            self._total = sum(self._turn_of(place) < LAST for place in self._queue)
            self._ask_what_stays()
            self._next()

    def _ask_what_stays(self) -> None:
        """Which connections of the processes that are to retire cannot move."""
        for slot in self._host.fleet.slots.values():
            process, declared = slot.current, self._plan.declarations.get(slot.worker)
            if (
                process is None
                or process.state is not State.READY
                or (declared is not None and self._is_kept(slot))
            ):
                continue
            if obstacle := handover_plan.obstacle(process, declared, self._settings):
                self.survey.note(process, obstacle)
            else:
                self.survey.ask(process)
        self.survey.asked()

    def _fill_all(self) -> None:
        fleet = self._host.fleet
        self._commit()
        fleet.match_slots()
        slots = [
            fleet.slots[place] for place in self._plan.places()
        ]  # there may be others, still being left
        self._waiting = set(slots)
        self._total, self._spawned = len(self._waiting), True
        for slot in slots:
            if self._host.reloads.current is self:
                fleet.spawn(slot, self._plan, self.generation)

    def _turn_of(self, place: Place) -> int:
        """First what replaces something, so that a fault shows before anything is changed; then
        what is new."""
        slot = self._host.fleet.slots.get(place)
        if slot is None or slot.current is None:
            return 1
        return LAST if self._is_kept(slot) else 0

    def _is_kept(self, slot: Slot) -> bool:
        return slot.current is not None and not self._plan.declarations[slot.worker].reloadable

    def _next(self) -> None:
        """Replace the next slot that needs it; at the end, finish."""
        while self._queue:
            slot = self._slot(self._queue.popleft())
            current = slot.current
            if current is not None and self._is_kept(slot):
                self._tell_kept(current, slot.worker)
                self._step(f"{slot.label} is not reloadable: told, and kept (pid {current.pid})")
                continue
            # Its process may have died meanwhile; then the replacement has loaded the new code.
            self._spawned = current is not None and current.generation == self.generation
            if self._spawned and current is not None and current.state is State.READY:
                self._count(slot)
                continue
            self._waiting = {slot}
            if not self._spawned and slot.successor is None:
                self._spawn(slot)
            return
        self._finish()

    def _tell_kept(self, process: Process, worker: str) -> None:
        """It reads its certificates again; those that it may not read itself come with the
        message."""
        files = self._plan.declarations[worker].files
        try:
            packed = [pack(files)] if files else []
        except OSError:  # no descriptors left: then it has to do with what it may read
            packed = []
        process.channel.send({"do": "reload"}, packed)
        for descriptor in packed:
            os.close(descriptor)

    def _slot(self, place: Place) -> Slot:
        fleet = self._host.fleet
        slot = fleet.slots.get(place)
        if slot is None:
            slot = fleet.slots[place] = Slot(*place)
            self._added.append(slot)
        return slot

    def _spawn(self, slot: Slot) -> None:
        self._spawned = True
        self._host.fleet.spawn(slot, self._plan, self.generation, self._settings)

    def may_fill(self, slot: Slot) -> bool:
        """False while it is for the rollout to fill `slot`."""
        return not self.first and slot not in self._waiting

    def ready(self, slot: Slot, process: Process) -> None:
        """A process of `slot` has become ready."""
        if slot not in self._waiting:
            return
        if process.generation != self.generation:
            if (
                not self._spawned and slot.successor is None
            ):  # it was booting with the old code as the reload began
                self._spawn(slot)
            return
        self._waiting.discard(slot)
        self._count(slot)
        if self.first:
            if not self._waiting:
                self._finish()
            return
        if slot not in self._added:
            self._commit()
        self._next()

    def _count(self, slot: Slot) -> None:
        self._ready += 1
        assert slot.current is not None
        self._step(f"{slot.label} is ready (pid {slot.current.pid}) [{self._ready}/{self._total}]")

    def _commit(self) -> None:
        """Something of the old generation is replaced: there is no way back."""
        self._committed = True
        self.survey.announce()
        self._host.fleet.plan = self._plan
        self._host.fleet.generation = self.generation
        self._host.fleet.settings = self._settings
        self._host.fleet.listeners.apply_files(self._plan)
        log.setLevel(self._settings.log_level.upper())

    def slot_failed(self, slot: Slot, reason: str, traceback: str) -> bool:
        """A process of `slot` could not be started, or died. True if that is the end of this
        rollout."""
        if slot not in self._waiting:
            return False
        if not self._spawned:
            if slot.successor is None:
                self._spawn(slot)
            return False
        if any(
            each.generation == self.generation and each.state is State.BOOTING
            for each in slot.processes()
        ):
            return False
        self.failed(f"{slot.label}: {reason}", traceback)
        return True

    def failed(self, reason: str, traceback: str = "") -> None:
        """Give up: undo what can be undone, and say why."""
        if not self.first:
            if self._committed:
                self._host.fleet.match_slots()
                reason += f" ({self._ready} of {self._total} were replaced before)"
            else:
                self._undo()
            log.error(
                "reload refused: %s%s", reason, "\n" + traceback.rstrip() if traceback else ""
            )
        unchanged = not self.first and not self._committed
        note = (
            f"nothing has changed: generation {self.generation - 1} serves on" if unchanged else ""
        )
        for call in self.calls:
            call.finish(1, error=reason, traceback=traceback, note=note)
        self._host.reloads.ended(reason, traceback, time.monotonic() - self._began)

    def _undo(self) -> None:
        fleet = self._host.fleet
        for slot in self._waiting:
            if (
                slot.current is not None
            ):  # it goes on serving; that its successor failed does not count
                slot.failures, slot.retry_at = 0, 0.0
        for slot in self._added:
            fleet.release(slot)
        fleet.listeners.keep_only(fleet.listeners.keys() - self._bound)

    def _finish(self) -> None:
        if not self.first:
            self._commit()
            self._host.scaling.forget_others(self._plan.counts)
            self._host.fleet.match_slots()
        self._replaced = True
        self.departed()

    def departed(self) -> None:
        """A process has handed over what it could, or is dead. With the last of them the rollout is
        over."""
        host, fleet = self._host, self._host.fleet
        if not self._replaced or fleet.retiring.is_departing(time.monotonic()):
            return
        seconds = time.monotonic() - self._began
        if not self.first:
            self._step(
                f"generation {fleet.generation} serves after {seconds:.1f} "
                f"s{_told(*fleet.retiring.counts())}"
            )
        for call in self.calls:
            call.finish(0)
        host.reloads.ended(None, "", seconds)

    def abandon(self, why: str) -> None:
        """The instance is stopping."""
        for call in self.calls:
            call.finish(1, error=why)

    def _step(self, text: str, level: int = logging.INFO) -> None:
        if not self.first:
            log.log(level, "reload: %s", text)
        for call in self.calls:
            call.send({"step": text})


def _told(handed_over: int, closed: int) -> str:
    if not handed_over and not closed:
        return ""
    moved = "1 connection was" if handed_over == 1 else f"{handed_over} connections were"
    return f"; {moved} handed over, {closed} closed"


def _read(found: list[dict[str, Any]]) -> list[Declaration]:
    """What a probe has sent; it has run the user's code, so it may be anything. Raises
    ConfigError."""
    try:
        return [Declaration(**fields) for fields in found]
    except TypeError as error:
        raise ConfigError(f"the target's declaration makes no sense: {error}") from None
