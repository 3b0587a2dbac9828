"""The processes of an instance: which should run, which do, and how they begin and end.

Owns the slots and the plan in force. The fleet forks, tells, kills and buries; it decides nothing
about reloads or the end of the instance: a death and a refused fork are values, on which the
caller decides.
"""

from __future__ import annotations

import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence

from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.ipc.assignment import STOP, Why
from gworker.ipc.scoreboard import COUNTERS
from gworker.master import exit_status, handover_plan, orphans
from gworker.master.broker_process import BrokerProcess
from gworker.master.children import KILL_MARGIN, UNWANTED, Children
from gworker.master.exit_status import Death, End, Exit, OomKills, reason_of
from gworker.master.listeners import Listeners
from gworker.master.molds import Molds
from gworker.master.plan import Place, Plan
from gworker.master.slots import Process, Role, Slot, State
from gworker.master.spawner import Entry, Spawner

log = logging.getLogger("gworker")

MOST_UNTOLD = 64


class Fleet:
    def __init__(
        self,
        settings: Settings,
        children: Children,
        listeners: Listeners,
        entry: Entry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = Plan()
        self.generation = 0
        self.slots: dict[Place, Slot] = {}
        self.gone = [0] * len(COUNTERS)  # counters of slots that do not exist any more
        self.listeners = listeners
        self.children = children
        self.spawner = Spawner(children, listeners, entry)
        self.molds = Molds(children, self.spawner, clock)
        self.broker = BrokerProcess(children, self.spawner, listeners.broker, clock)
        # Processes that died, and that none has told the broker of yet.
        self._untold: deque[int] = deque(maxlen=MOST_UNTOLD)
        # The last ends that were not asked for.
        self.exits: deque[Exit] = deque(maxlen=exit_status.KEEP)
        self.handovers = handover_plan.HandoverStats()
        self.oom = OomKills()
        self.orphans = orphans.Orphans()
        # Those in force. A reload that commits puts others in their place.
        self.settings = settings
        self.is_stopping = False
        self.clock = clock

    # ---- beginning

    def spawn(
        self,
        slot: Slot,
        plan: Plan,
        generation: int,
        settings: Settings | None = None,
        is_start: bool = False,
    ) -> str:
        """Start a process (or a successor) for `slot`; return why the system refuses one, or "".

        settings: those of a reload that is not in force yet. is_start: the instance starts.
        """
        settings = settings or self.settings
        try:
            mold = self.molds.of(generation)
            process = self.spawner.worker(slot.place, plan, generation, settings, is_start, mold)
        except OSError as error:
            reason = f"fork: {error.strerror}"
            log.error("cannot start %s: %s", slot.label, reason)
            slot.back_off(None, self.clock(), reason)
            slot.tell_no_successor()
            return reason
        slot.add(process)
        return ""

    def reconcile_slots(self) -> None:
        """Make a slot for every place of the plan, retire the processes of all others, and tell
        those that stay how many they are."""
        for place in self.plan.places():
            self.slots.setdefault(place, Slot(*place))
        for slot in list(self.slots.values()):
            if not self.is_planned(slot):
                self.release(slot)
        self.listeners.keep_only(self.plan.keys())
        for process in self.children.by_pid.values():
            count = self.plan.counts.get(process.worker, process.count)
            if process.role is Role.WORKER and count != process.count:
                process.count = count
                process.channel.send({"do": "count", "count": count})

    def commit(self, plan: Plan, generation: int, settings: Settings) -> None:
        """Put these in force."""
        self.plan, self.generation, self.settings = plan, generation, settings
        self.listeners.apply_files(plan)
        self.molds.keep(generation, settings)
        log.setLevel(settings.log_level.upper())

    def scale(self, worker: str, count: int) -> None:
        """Set the number of processes of a Worker. Raises ConfigError."""
        if self.is_stopping:
            raise ConfigError("the instance is stopping")
        plan = self.plan.with_count(worker, count)
        self.listeners.open_for(plan)
        self.plan = plan
        self.reconcile_slots()
        log.info("%s has %d process%s from now on", worker, count, "" if count == 1 else "es")

    def release(self, slot: Slot) -> None:
        """Nothing is to fill `slot` any more: its processes retire, and with the last of them it
        goes."""
        why = handover_plan.removal(self.plan.declarations.get(slot.worker))
        for process in slot.release_all():
            staying = [
                each.current
                for each in self.slots.values()
                if each.current and self.is_planned(each.current)
            ]
            self.retire(process, why, handover_plan.candidates(process, staying))
        if not slot.processes():
            self._remove(slot)

    # ---- ending

    def retire(self, process: Process, why: Why, successors: Sequence[Process] = ()) -> None:
        """Tell a process to finish what it has, or to hand it over; one that does not in time is
        killed."""
        seconds = process.settings.graceful_timeout
        if process.state is State.BOOTING:
            self.children.kill(process, UNWANTED, KILL_MARGIN)
        elif process.state is State.READY:
            process.to(State.RETIRING, self.clock() + seconds + KILL_MARGIN)
            process.grace = seconds
            handover_plan.retire(process, why, seconds, successors)
            self.handovers.add(process)

    def retiring_of(self, worker: str) -> list[Process]:
        return [
            process
            for process in self.children.by_pid.values()
            if process.worker == worker and process.state is State.RETIRING
        ]

    def is_planned(self, each: Process | Slot) -> bool:
        """True if the plan has the place that it fills."""
        return each.id < self.plan.counts.get(each.worker, 0)

    def stop(self, quick: bool) -> None:
        """End all processes but the broker and those that make calls of callbacks. quick: now, with
        no more than a farewell to the peers."""
        self.is_stopping = True
        self.listeners.close()
        self.molds.stop()
        for process in list(self.children.by_pid.values()):
            if process.role is Role.WORKER:
                self._stop(process, quick)
            elif process.role not in (Role.CALLBACKS, Role.BROKER):
                self.children.kill(process, UNWANTED, KILL_MARGIN)

    def _stop(self, process: Process, quick: bool) -> None:
        if not quick or process.state in (State.BOOTING, State.KILLED):
            if process.state is State.RETIRING:
                process.channel.send({"do": "hurry"})
            self.retire(process, STOP)
            return
        process.channel.send({"do": "quit"})
        if process.state is State.READY:
            process.to(State.RETIRING, None)
        process.stacks_requested = True  # there is no time for that
        process.grace, process.deadline = KILL_MARGIN, self.clock() + KILL_MARGIN

    def died(self, process: Process, status: int) -> Death:
        """A process was reaped. When the caller has dealt with that, it has to call `bury`."""
        reason = reason_of(process, status, self.oom)
        if process.role is Role.WORKER:
            end = self._leave_slot(process, status, reason)
        elif process.role is Role.BROKER:
            is_expected = status == 0 or process.kill_reason == UNWANTED
            end = End.LEFT if is_expected else End.LOST if self.broker.is_wanted else End.FAILED
            self.broker.on_end(process, reason)
        else:
            end = End.HELPER
            if process.role is Role.MOLD:
                self.molds.on_end(process, reason)
        return Death(process, end, status, reason)

    def _leave_slot(self, process: Process, status: int, reason: str) -> End:
        # Take a dead process from its slot. An empty slot that is not planned goes with it.
        slot = self.slots[process.worker, process.id]
        is_wanted = process not in slot.leaving and not self.is_stopping
        slot.remove(process)
        self.handovers.remove(process)
        if is_wanted:
            slot.back_off(process, self.clock(), reason)
            slot.tell_no_successor()
            return End.LOST
        if not slot.processes() and not self.is_planned(slot):
            self._remove(slot)
        is_expected = process.state is not State.READY and status == 0
        return End.LEFT if is_expected or process.kill_reason == UNWANTED else End.FAILED

    def bury(self, death: Death, is_told: bool) -> None:
        """Log the death, and free what the arbiter holds for the process. is_told: its reason is
        told elsewhere, and so is what follows."""
        process, slot = death.process, self.slots.get((death.process.worker, death.process.id))
        retry_at = self.broker.retry_at if process.role is Role.BROKER else 0.0
        delay = (retry_at if slot is None else slot.retry_at) - self.clock()
        exit_status.report(death, self.exits, is_told, self.clock())
        if death.end is End.LOST and not is_told and delay > 0 and not self.is_stopping:
            log.warning("%s is started again in %.1f s", process.label, delay)
        self.children.forget(process)
        if process.role is Role.WORKER:  # one that left may have found its broker down
            self._tell_of_death(process.pid)
        self.end_orphans(self.clock(), process.label, orderly=death.status == 0)

    def _tell_of_death(self, pid: int) -> None:
        # A broker that is not ours learns from the others that a process is dead.
        if not self.settings.broker.is_redis:
            return
        self._untold.append(pid)
        for process in self.children.by_pid.values():
            if process.role is Role.WORKER and process.state is State.READY:
                process.channel.send({"do": "died", "pid": pid})

    def tell_of_deaths(self, process: Process) -> None:
        """`process` is ready: it tells the broker which ones died of which no other has told. Those
        that were ready may have died themselves."""
        for pid in self._untold:
            if pid not in self.children.by_pid:  # else it is another process's by now
                process.channel.send({"do": "died", "pid": pid})

    def broker_was_told(self, pid: int) -> None:
        """One of the processes has told it that this one is dead."""
        if pid in self._untold:
            self._untold.remove(pid)

    def end_orphans(self, now: float, parent: str = "", orderly: bool = False) -> None:
        """Send the signals that are due to what dead processes have started (`Orphans.due`)."""
        for pid, number in self.orphans.due(self.children.strangers(), now, parent, orderly):
            self.children.send(pid, number)

    @property
    def has_helpers(self) -> bool:
        """True while a child runs that fills no slot and has something to finish, or what a dead
        process has started."""
        roles = {each.role for each in self.children.by_pid.values()}
        return bool(roles - {Role.WORKER, Role.BROKER, Role.WATCHER, Role.MOLD} or self.orphans)

    @property
    def has_left(self) -> bool:
        """True when all processes have ended but the broker and those that make calls of callbacks.
        A watcher, which is killed, is not waited for: a dead file server may hold it."""
        roles = {each.role for each in self.children.by_pid.values()}
        return not (roles - {Role.BROKER, Role.CALLBACKS, Role.WATCHER} or self.orphans)

    def _remove(self, slot: Slot) -> None:
        self.gone = [before + more for before, more in zip(self.gone, slot.totals, strict=True)]
        self.slots.pop(slot.place, None)

    # ---- chores

    def next_deadline(self, may_fill: Callable[[Slot], bool]) -> float:
        deadlines = [p.deadline for p in self.children.by_pid.values() if p.deadline is not None]
        if not self.is_stopping:
            deadlines += [
                slot.retry_at
                for slot in self.slots.values()
                if self._is_due(slot, slot.retry_at) and may_fill(slot)
            ]
        parts = (self.orphans, self.broker, self.molds)
        return min([*(each.next_deadline() for each in parts), *deadlines])

    def fill_slots(self, now: float, may_fill: Callable[[Slot], bool]) -> None:
        """Start a process in every slot that needs one now, and for which `may_fill` is true."""
        for slot in list(self.slots.values()):
            if self._is_due(slot, now) and may_fill(slot):
                self.spawn(slot, self.plan, self.generation)

    def _is_due(self, slot: Slot, now: float) -> bool:
        return slot.is_due(now) and self.is_planned(slot)

    def kill_all(self) -> None:
        # The arbiter itself is failing: leave nothing behind.
        orphans.kill_all(list(self.children.by_pid))
        for process in self.children.by_pid.values():
            self.children.signal(process, signal.SIGKILL)
        self.listeners.close()
        self.broker.close()
