"""The arbiter: it keeps worker processes alive, and knows processes, not bytes.

One turn reaps the dead, then handles one message (a signal, a request, a word from a child), looked
up in a table, or, if there is none, does the chores; then the loop sleeps until the earliest
deadline. A turn neither sleeps nor blocks. The arbiter runs no user code, imports no gevent and has
one thread.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from gworker import logs, requests
from gworker.children import PROBE, Children, Entry
from gworker.config import Settings
from gworker.control import Call, ControlServer
from gworker.daemon import Launch, open_output
from gworker.errors import ConfigError
from gworker.exits import Exits, describe
from gworker.listeners import Listeners
from gworker.plan import Place, Plan
from gworker.rollout import Rollout
from gworker.runtime import RuntimeFiles
from gworker.sampler import Sampler
from gworker.scoreboard import COUNTERS, Column
from gworker.slots import Process, Slot, State
from gworker.wakeup import Wakeup

log = logging.getLogger("gworker")

TICK = 1.0
"""Seconds between the chores that nothing else calls for: rates, and processes that hang."""

KILL_MARGIN = 2.0
"""Seconds that a process has, past the deadline that it keeps itself, before it is killed."""

DUMP_SECONDS = 1.0
"""How long a process that hangs may take to write its stacks."""

SIGNALS: dict[signal.Signals, str] = {
    signal.SIGHUP: "reload",
    signal.SIGTERM: "stop",
    signal.SIGINT: "quit",
    signal.SIGQUIT: "quit",
    signal.SIGTTIN: "more",
    signal.SIGTTOU: "fewer",
    signal.SIGUSR1: "reopen",
    signal.SIGCHLD: "reap",
}
"""What each signal means to the arbiter; docs/signals.md prints this table."""


class Arbiter:
    """One instance of gworker."""

    def __init__(self, settings: Settings, launch: Launch, files: RuntimeFiles, entry: Entry, log_fd: int) -> None:
        self.settings = settings
        self.state = "starting"
        self.generation = 0
        self.started = time.time()
        self.plan = Plan()
        self.asked: dict[str, int] = {}
        self.slots: dict[Place, Slot] = {}
        self.gone = [0] * len(COUNTERS)
        self.listeners = Listeners()
        self.exits = Exits()
        self.sampler = Sampler()
        self.rollout: Rollout | None = None
        self.last_reload: dict[str, Any] = {"ok": None, "error": None, "seconds": None, "handed_over": 0, "closed": 0}
        self.selector = selectors.DefaultSelector()
        self.children = Children(self.selector, self._on_word, self._leave_in_child, frozenset(SIGNALS))
        self.control = ControlServer(files.socket_path, self.selector, self._on_call)
        self.reports = requests.Reports()
        self.exit_code = 0
        self._entry = entry
        self._files = files
        self._launch = launch
        self._log_fd = log_fd
        self._wakeup = Wakeup()
        self._messages: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._next_tick = 0.0
        self._again: list[Call] | None = None
        self._on_signal: dict[str, Callable[[], None]] = {
            "reload": self.reload,
            "stop": self.stop,
            "quit": lambda: self.stop(quick=True),
            "more": lambda: self._scale_all(+1),
            "fewer": lambda: self._scale_all(-1),
            "reopen": self._reopen,
            "reap": lambda: None,
        }

    # ---- the loop

    def run(self) -> int:
        """Serve until stopped; return the exit code."""
        self._wakeup.install(SIGNALS)
        self.selector.register(self._wakeup, selectors.EVENT_READ, self._on_wakeup)
        try:
            self.control.open()
            self.rollout = Rollout(self, first=True)
            self.rollout.begin()
            while self.state != "stopped":
                self.turn()
                if not self._messages:
                    self._wait()
        finally:
            self._clean_up()
        return self.exit_code

    def turn(self) -> None:
        """Reap; then one message, or the chores."""
        for process, status in self.children.reap():
            self._died(process, status)
        if self._messages:
            handle, argument = self._messages.popleft()
            handle(argument)
        else:
            self._chores(time.monotonic())
        if self.state == "stopping" and not self.children.by_pid:
            self.state = "stopped"

    def _wait(self) -> None:
        if self.state == "stopped":
            return
        for key, mask in self.selector.select(max(0.0, self._next_deadline() - time.monotonic())):
            key.data(mask)

    def _next_deadline(self) -> float:
        deadlines = [self._next_tick]
        deadlines += [p.deadline for p in self.children.by_pid.values() if p.deadline is not None]
        deadlines.append(self.reports.next_deadline())
        if self.state != "stopping":
            deadlines += [slot.retry_at for slot in self.slots.values() if self._is_due(slot, slot.retry_at)]
        return min(deadlines)

    def _on_wakeup(self, _mask: int) -> None:
        for number in self._wakeup.read():
            self._messages.append((self._signalled, number))

    def _on_call(self, call: Call) -> None:
        self._messages.append((self._called, call))

    def _on_word(self, process: Process) -> None:
        """Read what a child says. At its end of file there is nothing to do: its death is reaped."""
        try:
            message, descriptors = process.channel.receive()
        except BlockingIOError:
            return
        if message is None:
            self.children.silence(process)
            return
        self._messages.append((lambda said: self._said(process, *said), (message, descriptors)))

    def _signalled(self, number: int) -> None:
        if number != signal.SIGCHLD:
            log.info("received %s", signal.Signals(number).name)
        self._on_signal[SIGNALS[signal.Signals(number)]]()

    def _called(self, call: Call) -> None:
        requests.answer(self, call)

    # ---- what children say

    def _said(self, process: Process, message: dict[str, Any], descriptors: list[int]) -> None:
        event = message["event"]
        if event == "ready":
            self._ready(process)
        elif event == "declared":
            process.told = "declared"
            if self.rollout is not None:
                self.rollout.declared(message["workers"])
        elif event == "failed":
            process.told = message["reason"]
            process.traceback = message["traceback"]
        elif event == "replace":
            self._replace(process)
        elif event == "connections":
            self.reports.received(process, message["request"], descriptors)

    def _ready(self, process: Process) -> None:
        if process.state is not State.BOOTING:
            return
        now = time.monotonic()
        process.to(State.READY, None)
        slot = self.slots[process.worker, process.id]
        predecessor = slot.became_ready(process, now)
        log.info("%s is ready (pid %d, generation %d)", process.label, process.pid, process.generation)
        if predecessor is not None:
            self.retire(predecessor, "reload")
        if self.rollout is not None:
            self.rollout.ready(slot)

    def _replace(self, process: Process) -> None:
        slot = self.slots.get((process.worker, process.id))
        if slot is not None and slot.current is process and self.state != "stopping":
            slot.wants_successor = True

    # ---- making and ending processes

    def spawn_probe(self) -> Process:
        """A child that loads the target and tells what it declares. Raises OSError."""
        return self.children.fork(
            (PROBE, 0), self.generation, self.settings.boot_timeout, lambda _, channel: self._entry.probe(channel)
        )

    def spawn(self, slot: Slot, plan: Plan) -> None:
        """Start a process (or a successor) for `slot`; if the system refuses one, try again later."""
        place = (slot.worker, slot.id)
        key = plan.key(place)
        listener = self.listeners.get(key) if key is not None else None
        fd = listener.socket.fileno() if listener is not None else None
        count, generation, declared = plan.counts[slot.worker], self.generation, plan.declarations[slot.worker]
        try:
            process = self.children.fork(
                place,
                generation,
                self.settings.boot_timeout,
                lambda row, channel: self._entry.worker(
                    place, generation, count, self._keep_only(fd), row, channel, declared.user, declared.group
                ),
            )
        except OSError as error:
            reason = f"fork: {error.strerror}"
            log.error("cannot start %s: %s", slot.label, reason)
            slot.failed(None, time.monotonic(), reason)
            if self.rollout is not None:
                self.rollout.slot_failed(slot, reason)
            return
        slot.add(process)

    def _keep_only(self, listener: int | None) -> int | None:
        self.listeners.close_in_child(listener)
        return listener

    def retire(self, process: Process, why: str) -> None:
        """Tell a process to finish what it has; one that does not in time is killed."""
        seconds = self.settings.graceful_timeout
        if process.state is State.BOOTING:
            self.children.kill(process, "not needed any more", KILL_MARGIN)
        elif process.state is State.READY:
            process.to(State.RETIRING, time.monotonic() + seconds + KILL_MARGIN)
            process.channel.send({"do": "retire", "why": why, "seconds": seconds})

    def _died(self, process: Process, status: int) -> None:
        self._last_words(process)
        reason = describe(status)
        if process.told and process.told != "declared":
            reason = process.told
        elif process.reason:
            reason = f"{process.reason}: {reason}"
        expected = process.state in (State.RETIRING, State.KILLED) and status == 0
        if process.worker == PROBE:
            self._probe_died(process, reason)
        else:
            self._worker_died(process, reason, expected)
        self.children.forget(process)

    def _last_words(self, process: Process) -> None:
        """Handle what it said before it died, also what waits in the queue of messages."""
        while True:
            try:
                message, descriptors = process.channel.receive()
            except BlockingIOError:
                break
            if message is None:
                break
            self._said(process, message, descriptors)

    def _probe_died(self, process: Process, reason: str) -> None:
        if self.rollout is not None and process.told != "declared":
            self.rollout.failed(reason, process.traceback)

    def _worker_died(self, process: Process, reason: str, expected: bool) -> None:
        slot = self.slots.get((process.worker, process.id))
        wanted = slot is not None and process not in slot.leaving and process.reason != "not needed any more"
        if not expected:
            self.exits.add(process.worker, process.id, process.pid, reason)
            log.log(logging.ERROR if wanted else logging.WARNING, "%s (pid %d) %s", process.label, process.pid, reason)
            if process.traceback and self.rollout is None:
                log.error("%s", process.traceback.rstrip())
        else:
            log.info("%s (pid %d) has left", process.label, process.pid)
        if slot is None:
            return
        was_wanted = process in (slot.current, slot.successor)
        slot.remove(process)
        if not slot.processes() and (slot.worker, slot.id) not in self.plan.places():
            self._remove(slot)
        elif was_wanted and self.state != "stopping":
            slot.failed(process, time.monotonic(), reason)
            if slot.retry_at > time.monotonic():
                log.warning("%s is started again in %.1f s", slot.label, slot.retry_at - time.monotonic())
            if self.rollout is not None:
                self.rollout.slot_failed(slot, reason, process.traceback)

    def _remove(self, slot: Slot) -> None:
        self.gone = [before + more for before, more in zip(self.gone, slot.totals, strict=True)]
        del self.slots[slot.worker, slot.id]
        self.close_unused_listeners()

    def close_unused_listeners(self) -> None:
        """Close the sockets that neither the plan nor a leaving process needs."""
        needed = {self.plan.key(place) for place in self.plan.places()}
        leaving = any(place not in self.plan.places() for place in self.slots)
        if not leaving:
            self.listeners.keep_only({key for key in needed if key is not None})

    # ---- chores

    def _chores(self, now: float) -> None:
        for process in list(self.children.by_pid.values()):
            if process.deadline is not None and process.deadline <= now:
                self._too_late(process)
        if self.state == "stopping":
            return
        for slot in list(self.slots.values()):
            if self._is_due(slot, now):
                self.spawn(slot, self.plan)
        self.reports.expire(now)
        if now >= self._next_tick:
            self._next_tick = now + TICK
            self.sampler.take(self.children.by_pid.values(), now)
            self._check_beats(now)

    def _is_due(self, slot: Slot, now: float) -> bool:
        wanted = (slot.worker, slot.id) in self._wanted_places()
        held_back = self.rollout is not None and not self.rollout.may_spawn(slot)
        return wanted and not held_back and slot.is_due(now)

    def _wanted_places(self) -> set[Place]:
        return set(self.plan.places())

    def _too_late(self, process: Process) -> None:
        if process.state is State.BOOTING:
            reason = f"not ready within {self.settings.boot_timeout:g} s"
        elif process.state is State.READY:
            reason = f"its event loop did not turn for {self.settings.timeout:g} s"
        else:
            reason = f"did not leave within {self.settings.graceful_timeout:g} s"
        self.children.kill(process, reason, KILL_MARGIN)

    def _check_beats(self, now: float) -> None:
        """A process whose event loop hangs first gets the time to write its stacks, then it is killed."""
        limit = self.settings.timeout
        if not limit:
            return
        for process in self.children.by_pid.values():
            if process.state is not State.READY or process.dumped:
                continue
            if now - process.row[Column.BEAT] / 1e9 > limit:
                log.error("%s (pid %d) hangs: these are its stacks", process.label, process.pid)
                process.dumped = True
                process.deadline = now + DUMP_SECONDS
                self.children.signal(process, signal.SIGUSR2)

    # ---- reload, scale, stop

    def reload(self, call: Call | None = None) -> None:
        """Begin a reload, or note that one more is to follow the one that goes on."""
        calls = [call] if call is not None else []
        if self.state in ("starting", "stopping", "stopped"):
            for waiting in calls:
                waiting.finish(1, error=f"the instance is {self.state}")
        elif self.rollout is not None:
            self._again = (self._again or []) + calls
            for waiting in calls:
                waiting.send({"step": "a reload is going on; one more follows it"})
        else:
            self.state = "reloading"
            self.rollout = Rollout(self, first=False, calls=calls)
            self.rollout.begin()

    def rollout_ended(self, error: str | None, traceback: str, seconds: float, first: bool) -> None:
        """The start or a reload is over; `error` says why it failed."""
        self.rollout = None
        if first and error is not None:
            self._launch.failed(f"{traceback}gworker: error: {error}")
            self.exit_code = 1
            self.stop(quick=True)
            return
        if first:
            self.state = "running"
            self._launch.ready(self._ready_message())
            return
        self.last_reload.update(ok=error is None, error=error, seconds=round(seconds, 3))
        if self.state == "reloading":
            self.state = "running"
        again, self._again = self._again, None
        if again is not None:
            self.reload()
            if self.rollout is not None:
                self.rollout.calls += again

    def _ready_message(self) -> str:
        urls = [listener.address.url for listener in self.listeners.all()]
        where = " on " + ", ".join(sorted(set(urls))) if urls else ""
        count = len(self.plan.places())
        return f"gworker {self.settings.name} is ready: {count} process{'es' * (count > 1)}{where} (pid {os.getpid()})"

    def _scale_all(self, step: int) -> None:
        for name, count in self.plan.counts.items():
            try:
                self.scale(name, count + step)
            except ConfigError as error:
                log.warning("%s", error)

    def scale(self, name: str, count: int) -> None:
        """Set the number of processes of a Worker. Raises ConfigError."""
        if self.state not in ("running", "reloading"):
            raise ConfigError(f"the instance is {self.state}")
        plan = self.plan.with_count(name, count)
        for place in plan.places():
            key = plan.key(place)
            if key is not None:
                self.listeners.open(key, plan.declarations[place[0]].backlog)
        self.plan = plan
        self.asked[name] = count
        self.match_slots()
        log.info("%s has %d processes from now on", name, count)

    def match_slots(self) -> None:
        """Make a slot for every place of the plan, and retire the processes of all others."""
        wanted = self.plan.places()
        for place in wanted:
            self.slots.setdefault(place, Slot(*place))
        for place, slot in list(self.slots.items()):
            if place in wanted:
                continue
            for process in slot.processes():
                self.retire(process, "remove")
            if not slot.processes():
                self._remove(slot)

    def stop(self, quick: bool = False) -> None:
        """Stop everything; a second call, or a quick one, cuts the grace short."""
        quick = quick or self.state == "stopping"
        self.state = "stopping"
        if self.rollout is not None:
            rollout, self.rollout = self.rollout, None
            rollout.abandon("the instance is stopping")
        self.listeners.keep_only(set())
        for process in list(self.children.by_pid.values()):
            self._stop(process, quick)

    def _stop(self, process: Process, quick: bool) -> None:
        if process.worker == PROBE:
            self.children.kill(process, "not needed any more", KILL_MARGIN)
        elif quick and process.state in (State.READY, State.RETIRING):
            process.channel.send({"do": "quit"})
            if process.state is State.READY:
                process.to(State.RETIRING, None)
            process.deadline = time.monotonic() + KILL_MARGIN
        else:
            self.retire(process, "stop")

    def _reopen(self) -> None:
        """Open the log files anew and give every process the new descriptors (logrotate(8))."""
        try:
            pairs = []
            if self.settings.log_file is not None:
                pairs.append((self._log_fd, logs.open_file(self.settings.log_file)))
            if self.settings.stdout_file is not None:
                output = open_output(self.settings.stdout_file)
                pairs += [(1, os.dup(output)), (2, output)]
        except (OSError, ConfigError) as error:
            log.error("cannot reopen the log files: %s", error)
            return
        for process in self.children.by_pid.values():
            process.channel.send({"do": "reopen", "targets": [old for old, _ in pairs]}, [new for _, new in pairs])
        for old, new in pairs:
            os.dup2(new, old, inheritable=old <= 2)
            os.close(new)
        log.info("log files reopened")

    # ---- leaving

    def _leave_in_child(self) -> None:
        """In a forked child: drop everything that is the arbiter's."""
        self._wakeup.close_in_child(SIGNALS)
        self.control.close_in_child()
        self._files.close_in_child()
        self._launch.close_in_child()
        self.selector.close()

    def _clean_up(self) -> None:
        for process in self.children.by_pid.values():
            self.children.signal(process, signal.SIGKILL)
        self.listeners.keep_only(set())
        self.control.close()
        log.info("stopped")
