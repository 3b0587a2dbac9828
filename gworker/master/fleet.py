"""The processes of an instance: which should run, which do, and how they begin and end.

The fleet forks, tells, kills and buries; it decides nothing about reloads or the end of the
instance. What it cannot settle by itself goes to its `Owner`.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from gworker.config.settings import Settings
from gworker.ipc import boot_stage
from gworker.ipc.assignment import REMOVED, REMOVED_WITH_LISTENER, STOP, Assignment, Why
from gworker.ipc.channel import Channel
from gworker.ipc.scoreboard import COUNTERS, Column, Row
from gworker.master import handover_plan, orphans
from gworker.master.children import KILL_MARGIN, PROBE, Children, Entry
from gworker.master.exit_status import Exits, describe
from gworker.master.listeners import Listeners
from gworker.master.master_callbacks import Call, Hooks
from gworker.master.oom import REASON as OOM
from gworker.master.oom import OomKills
from gworker.master.orphans import Strays
from gworker.master.plan import Place, Plan
from gworker.master.slots import HOOKS_ID, TRIAL_ID, Process, Slot, State
from gworker.master.watchdog import Patience
from gworker.tls.key_files import pack

log = logging.getLogger("gworker")

UNWANTED = "not needed any more"


class Owner(Protocol):
    """What the fleet asks and tells upwards."""

    @property
    def is_stopping(self) -> bool: ...
    def may_fill(self, slot: Slot) -> bool:
        """False while somebody else sees to it that `slot` is filled."""

    def slot_failed(self, slot: Slot, reason: str, traceback: str) -> bool:
        """A process of `slot` could not start or died. True: its reason is told elsewhere."""

    def probe_failed(self, reason: str, traceback: str) -> None:
        """The probe child ended without a declaration."""


class Fleet:
    """Slots and processes."""

    def __init__(
        self,
        settings: Settings,
        owner: Owner,
        entry: Entry,
        selector: selectors.BaseSelector,
        on_word: Callable[[Process], None],
        leave_arbiter: Callable[[], None],
        signals: frozenset[signal.Signals],
    ) -> None:
        self.plan = Plan()
        self.generation = 0
        self.slots: dict[Place, Slot] = {}
        self.gone = [0] * len(COUNTERS)
        """Counters of slots that do not exist any more."""
        self.listeners = Listeners()
        self.exits = Exits()
        self.retiring = handover_plan.Tally()
        self.oom = OomKills()
        self.children = Children(selector, on_word, leave_arbiter, signals)
        self.hooks = Hooks(self)
        self.patience = Patience(self)
        self.strays = Strays(self)
        self.settings = settings
        """Those in force. A reload that commits puts others in their place; who needs them asks
        here."""
        self._owner = owner
        self._entry = entry

    # ---- beginning

    def spawn_probe(self, settings: Settings) -> Process:
        """A child that loads the target and tells what it declares with these settings. Raises
        OSError."""
        return self._spawn_helper(
            PROBE,
            settings,
            settings.boot_timeout,
            lambda entry, channel: entry.probe(settings, channel),
        )

    def spawn_hooks(self, worker: str, calls: list[Call], seconds: float) -> Process:
        """A child that makes `calls` of callbacks of `worker`. Raises OSError."""
        settings, declared = self.settings, self.plan.declarations[worker]

        def run(entry: Entry, channel: Channel) -> int:
            return entry.hooks(settings, channel, worker, calls, declared.user, declared.group)

        process = self._spawn_helper((worker, HOOKS_ID), settings, seconds, run)
        process.on_end = self.hooks.ended
        return process

    def spawn_trial(
        self, run: Callable[[], int], on_end: Callable[[Process, int, str], None]
    ) -> None:
        """A child that tries the new code of an upgrade. Raises OSError."""
        place, settings = ("upgrade", TRIAL_ID), self.settings
        process = self._spawn_helper(
            place, settings, settings.boot_timeout, lambda _entry, _channel: run()
        )
        process.on_end = on_end

    def _spawn_helper(
        self, place: Place, settings: Settings, seconds: float, run: Callable[[Entry, Channel], int]
    ) -> Process:
        def main(_: Row, channel: Channel) -> int:
            self.listeners.close_in_child()
            return run(self._entry, channel)

        process = self.children.fork(place, self.generation, seconds, main)
        process.settings = settings
        return process

    def fork_helper(self, main: Callable[[Channel], int]) -> tuple[int, Channel]:
        """A child that fills no slot and holds no listener: (pid, channel). Raises OSError."""

        def run(channel: Channel) -> int:
            self.listeners.close_in_child()
            return main(channel)

        return self.children.fork_helper(run)

    def spawn(
        self, slot: Slot, plan: Plan, generation: int, settings: Settings | None = None
    ) -> str:
        """Start a process (or a successor) for `slot`; return why the system refuses one, or "".

        settings: those of a reload that is not in force yet.
        """
        if slot.current is not None and slot.successor is not None:
            return ""
        place = (slot.worker, slot.id)
        key = plan.key(place)
        listener = self.listeners.get(key) if key is not None else None
        descriptors = listener.descriptors if listener is not None else ()
        declared, count = plan.declarations[slot.worker], plan.counts[slot.worker]
        given = settings or self.settings
        assignment = Assignment(
            *place, generation, descriptors, self.children.scoreboard, self.children.ids, count,
            declared.user, declared.group, declared.files,
        )  # fmt: skip

        def main(row: Row, channel: Channel) -> int:
            self.listeners.close_in_child(descriptors)
            return self._entry.worker(assignment, given, row, channel)

        try:
            process = self.children.fork(place, generation, given.boot_timeout, main)
            process.key, process.settings, process.count = key, given, count
            process.kin = handover_plan.kin(declared, given)
            slot.add(process)
        except OSError as error:
            reason = f"fork: {error.strerror}"
            log.error("cannot start %s: %s", slot.label, reason)
            slot.failed(None, time.monotonic(), reason)
            return reason
        return ""

    def match_slots(self) -> None:
        """Make a slot for every place of the plan, and retire the processes of all others."""
        wanted = set(self.plan.places())
        for place in self.plan.places():
            self.slots.setdefault(place, Slot(*place))
        for place, slot in list(self.slots.items()):
            if place not in wanted:
                self.release(slot)
        self.close_unused_listeners()
        self._tell_counts()

    def commit(self, plan: Plan, generation: int, settings: Settings) -> None:
        """Put these in force."""
        self.plan, self.generation, self.settings = plan, generation, settings
        self.listeners.apply_files(plan)

    def notify_kept(self, process: Process, files: Sequence[str]) -> None:
        """A reload keeps `process`: it reads its certificates again; those that it may not read
        itself come with the message."""
        try:
            packed = [pack(files)] if files else []
        except OSError:  # no descriptors left: then it has to do with what it may read
            packed = []
        process.channel.send({"do": "reload"}, packed)
        for descriptor in packed:
            os.close(descriptor)

    def _tell_counts(self) -> None:
        """Let the processes know how many there are of their Worker now."""
        for process in self.children.by_pid.values():
            count = self.plan.counts.get(process.worker, process.count)
            if not process.is_helper and count != process.count:
                process.count = count
                process.channel.send({"do": "count", "count": count})

    def release(self, slot: Slot) -> None:
        """Nothing is to fill `slot` any more: its processes retire, and with the last of them it
        goes."""
        why = self._why_removed(slot)
        for process in slot.let_go():
            staying = [
                each.current
                for each in self.slots.values()
                if each.current and self.is_planned(each.current)
            ]
            self.retire(process, why, handover_plan.siblings(process, staying))
        if not slot.processes():
            self._remove(slot)

    def _why_removed(self, slot: Slot) -> Why:
        """Who is the last to serve a listener has to take what still waits in its queue."""
        declaration = self.plan.declarations.get(slot.worker)
        if declaration is None:
            return STOP
        return REMOVED_WITH_LISTENER if declaration.reuse_port else REMOVED

    # ---- ending

    def retire(self, process: Process, why: Why, successors: Sequence[Process] = ()) -> None:
        """Tell a process to finish what it has, or to hand it over; one that does not in time is
        killed."""
        seconds = self.settings_of(process).graceful_timeout
        if process.state is State.BOOTING:
            self.children.kill(process, UNWANTED, KILL_MARGIN)
        elif process.state is State.READY:
            process.to(State.RETIRING, time.monotonic() + seconds + KILL_MARGIN)
            process.grace = seconds
            handover_plan.retire(process, why, seconds, successors)
            self.retiring.began(process)

    def retiring_of(self, worker: str) -> list[Process]:
        """The processes of a Worker that are finishing what they have."""
        return [
            p
            for p in self.children.by_pid.values()
            if p.worker == worker and p.state is State.RETIRING
        ]

    def is_planned(self, process: Process) -> bool:
        """True if the plan has a slot for what `process` does."""
        return process.id < self.plan.counts.get(process.worker, 0)

    def stop(self, quick: bool) -> None:
        """End all processes; `quick`: now, with no more than a farewell to the peers."""
        self.listeners.close()
        self.hooks.stop(quick)
        for process in list(self.children.by_pid.values()):
            if process.is_hooks:
                continue
            if process.is_helper:
                self.children.kill(process, UNWANTED, KILL_MARGIN)
            elif not quick or process.state in (State.BOOTING, State.KILLED):
                if process.state is State.RETIRING:
                    process.channel.send({"do": "hurry"})
                self.retire(process, STOP)
            else:
                process.channel.send({"do": "quit"})
                if process.state is State.READY:
                    process.to(State.RETIRING, None)
                process.dumped = True  # there is no time for that
                process.grace, process.deadline = KILL_MARGIN, time.monotonic() + KILL_MARGIN

    def died(self, process: Process, status: int) -> None:
        """Bury a process."""
        reason = describe(status)
        if (
            os.WIFSIGNALED(status)
            and os.WTERMSIG(status) == signal.SIGKILL
            and not process.reason
            and self.oom.take()
        ):
            reason = OOM
        if process.told:
            reason = process.told
        elif process.reason:
            reason = f"{process.reason}: {reason}"
        elif process.state is State.BOOTING:
            reason = boot_stage.crash(
                process.step, self.settings_of(process).target, process.worker, reason
            )
        if process.on_end is not None:
            process.on_end(process, status, reason)
        elif not process.is_probe:
            self._worker_died(
                process, reason, expected=process.state is not State.READY and status == 0
            )
            self.hooks.call("on_worker_exit", process.worker, process.id, process.pid, reason)
        elif not process.declared:
            self._owner.probe_failed(reason, process.traceback)
        self.children.forget(process)
        self.strays.look(time.monotonic(), process.label, orderly=status == 0)

    def _worker_died(self, process: Process, reason: str, expected: bool) -> None:
        slot = self.slots[process.worker, process.id]
        wanted = process not in slot.leaving and not self._owner.is_stopping
        slot.remove(process)
        self.retiring.ended(process)
        told = False
        if not slot.processes() and (slot.worker, slot.id) not in self.plan.places() and not wanted:
            self._remove(slot)
        elif wanted:
            slot.failed(process, time.monotonic(), reason)
            told = self._owner.slot_failed(slot, reason, process.traceback)
        self._report_death(process, reason, expected and not wanted, told)
        delay = slot.retry_at - time.monotonic()
        if wanted and not told and delay > 0 and not self._owner.is_stopping:
            log.warning("%s is started again in %.1f s", slot.label, delay)

    def _report_death(self, process: Process, reason: str, expected: bool, told: bool) -> None:
        if expected or process.reason == UNWANTED:
            log.info("%s (pid %d) has left", process.label, process.pid)
            return
        self.exits.add(process.worker, process.id, process.pid, reason)
        log.error("%s (pid %d) %s%s", process.label, process.pid, reason, self._last_row(process))
        if process.traceback and not told:
            log.error("%s", process.traceback.rstrip())

    def _last_row(self, process: Process) -> str:
        """What a process that has served was doing, as far as the scoreboard knows."""
        if process.ready_at is None:
            return ""
        row, seconds = process.row, time.monotonic() - process.ready_at
        connections, requests = row[Column.CONNECTIONS], row[Column.REQUESTS]
        return (
            f", after {seconds:.1f} s in service, with {connections} connections, {requests} "
            "requests served"
        )

    @property
    def is_settled(self) -> bool:
        """True while no helper child runs, and none is to be started."""
        helps = any(process.is_helper for process in self.children.by_pid.values())
        return self.hooks.is_idle and not helps and not self.strays

    def is_over(self, served: bool) -> bool:
        """The instance stops: True when all processes have left, and then the helper children have
        (`Hooks.finish`)."""
        left = (
            all(process.is_hooks for process in self.children.by_pid.values()) and not self.strays
        )
        return left and self.hooks.finish(served, self.settings.graceful_timeout)

    def _remove(self, slot: Slot) -> None:
        self.gone = [before + more for before, more in zip(self.gone, slot.totals, strict=True)]
        self.slots.pop((slot.worker, slot.id), None)

    def close_unused_listeners(self) -> None:
        """Close the sockets that nothing in the plan serves. A process that drains one has its own
        copy."""
        places = self.plan.places()
        self.listeners.keep_only(
            {key for place in places if (key := self.plan.key(place)) is not None}
        )

    def listen_url(self, place: Place) -> str | None:
        """Where the process in `place` listens, with the port that was chosen."""
        declaration = self.plan.declarations.get(place[0])
        if declaration is None:
            return None
        key, address = self.plan.key(place), declaration.address()
        listener = self.listeners.get(key) if key is not None else None
        if listener is None or address is None:
            return None
        return (listener.address or address.with_port(listener.port)).url

    # ---- chores

    def next_deadline(self) -> float:
        """The earliest monotonic time at which there is something to do."""
        deadlines = [p.deadline for p in self.children.by_pid.values() if p.deadline is not None]
        if not self._owner.is_stopping:
            deadlines += [
                slot.retry_at for slot in self.slots.values() if self._is_due(slot, slot.retry_at)
            ]
        return min([self.hooks.next_deadline(), self.strays.next_deadline(), *deadlines])

    def settings_of(self, process: Process) -> Settings:
        """Those that it was started with, which may be older than those in force."""
        return process.settings or self.settings

    def fill_slots(self, now: float) -> None:
        """Start a process in every slot that needs one and may have it."""
        for slot in list(self.slots.values()):
            if self._is_due(slot, now) and (
                refused := self.spawn(slot, self.plan, self.generation)
            ):
                self._owner.slot_failed(slot, refused, "")

    def _is_due(self, slot: Slot, now: float) -> bool:
        return (
            slot.is_due(now)
            and slot.id < self.plan.counts.get(slot.worker, 0)
            and self._owner.may_fill(slot)
        )

    def kill_all(self) -> None:
        """The arbiter itself is failing: leave nothing behind."""
        orphans.kill_all(list(self.children.by_pid))
        for process in self.children.by_pid.values():
            self.children.signal(process, signal.SIGKILL)
        self.listeners.close()
