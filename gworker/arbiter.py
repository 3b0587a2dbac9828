"""The arbiter: it keeps worker processes alive, and knows processes, not bytes.

One turn reaps the dead, then handles one message (a signal, a request, a word from a child), looked
up in a table. When none is left it does the chores, and while more keep coming it does them all the
same, CHORES_SECONDS after the last time; then the loop sleeps until the earliest deadline. A turn
neither sleeps nor blocks. The arbiter runs no user code, imports no gevent and has one thread.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gworker.config.settings import Settings
from gworker.config.sources import reread
from gworker.errors import ConfigError
from gworker.logs import setup
from gworker.master import child_messages, control_commands, orphans, watchdog
from gworker.master.attendants import Attendants
from gworker.master.autoreload import Reloader
from gworker.master.children import ChildMessage, Children, Entry, Kernel
from gworker.master.control_connection import Call
from gworker.master.control_server import ControlServer
from gworker.master.exit_status import Death, End
from gworker.master.fleet import Fleet
from gworker.master.listeners import Listeners
from gworker.master.log_files import LogFiles
from gworker.master.master_callbacks import MasterCallbacks
from gworker.master.plan import Plan
from gworker.master.process_stats import Sampler
from gworker.master.recycler import Recycler, recycle
from gworker.master.rollout import Rollout
from gworker.master.rollout_events import (
    Commit,
    Committed,
    Ended,
    Event,
    Outcome,
    ProbeFailed,
    ProcessLeft,
    SlotFailed,
)
from gworker.master.rollout_queue import RolloutQueue
from gworker.master.runtime_check import RuntimeCheck
from gworker.master.runtime_files import RuntimeFiles
from gworker.master.slots import Process, Role, Slot, State
from gworker.master.status import ready_message
from gworker.master.systemd import Invocation, Supervision
from gworker.master.terminal import Terminal
from gworker.master.upgrade import Belongings, Upgrade
from gworker.system.daemon import Launch
from gworker.system.signal_pipe import SignalPipe

log = logging.getLogger("gworker")

TICK = 1.0
"""Seconds between the chores that nothing else calls for: rates, and processes that hang."""

CHORES_SECONDS = 0.1
"""How long messages may put the chores off: processes that never stop talking must not keep a hung
one alive."""

SIGNALS: dict[signal.Signals, str] = {
    signal.SIGHUP: "hangup",
    signal.SIGTERM: "stop",
    signal.SIGINT: "quit",
    signal.SIGQUIT: "quit",
    signal.SIGTTIN: "more",
    signal.SIGTTOU: "fewer",
    signal.SIGUSR1: "reopen",
    signal.SIGUSR2: "upgrade",
    signal.SIGCHLD: "reap",
}
"""What each signal means to the arbiter. docs/signals.md is checked against this table."""

STANDSTILL, NOTABLE_STANDSTILL = 0.5, 3.0
"""Seconds by which a turn may come late. Later than that, the arbiter or the whole machine was
stopped, and what the processes did not do meanwhile is not their fault; much later, and the log
says so."""


class Arbiter:
    """One instance of gworker."""

    def __init__(
        self,
        settings: Settings,
        launch: Launch,
        files: RuntimeFiles,
        entry: Entry,
        outputs: setup.Outputs,
        invocation: Invocation | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        kernel: Kernel | None = None,
    ) -> None:
        invocation = invocation or Invocation()
        self._clock = clock
        self.state = "starting"
        self.started = self._clock()
        self.sampler = Sampler()
        self.reports = control_commands.Reports()
        self._selector = selectors.DefaultSelector()
        children = Children(
            self._selector,
            self._on_child_message,
            self._leave_in_child,
            frozenset(SIGNALS),
            clock,
            kernel,
        )
        self.fleet = Fleet(settings, children, Listeners(invocation.sockets), entry, clock)
        self.callbacks = MasterCallbacks(
            self.fleet.spawn_callbacks, lambda: self.fleet.plan.declarations, clock
        )
        self.rollouts = RolloutQueue(self.fleet.handovers)
        self.recycler = Recycler()
        self._control = ControlServer(files.socket_path, self._selector, self._on_call)
        self._files = files
        self._launch = launch
        self.log_files = LogFiles(self.fleet, outputs)
        self._exit_code = 0
        self._wakeup = SignalPipe()
        self.terminal = Terminal()
        self._messages: deque[Callable[[], None]] = deque()
        self._next_tick = 0.0
        self._next_chores = 0.0
        self._seen = self._clock()
        """When the arbiter looked at the clock last."""
        self._excused = False
        """A standstill was allowed for since the last tick. Not twice: an overloaded machine would
        have no ticks."""
        self.supervision = Supervision(self, invocation)
        self.reloader = Reloader(self)
        self._attendants = Attendants(
            self.reloader, self.supervision, RuntimeCheck(files, self._control)
        )
        cwd = settings.sources.directory if settings.sources is not None else os.getcwd()
        self.upgrade = Upgrade(
            self, SIGNALS, Belongings(files, self._control, outputs, invocation, cwd)
        )
        self._on_signal = self._meanings()

    def _meanings(self) -> dict[str, Callable[[], object]]:
        """What is done for each word in SIGNALS."""
        return {
            "hangup": self._hung_up,
            "stop": self.stop,
            "quit": lambda: self.stop(quick=True),
            "more": lambda: self.scale_all(+1),
            "fewer": lambda: self.scale_all(-1),
            "reopen": self.log_files.reopen,
            "upgrade": self.upgrade.request,
            "reap": lambda: None,
        }

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self.fleet.settings

    @property
    def is_stopping(self) -> bool:
        """True from the moment on that the instance ends."""
        return self.state in ("stopping", "stopped")

    # ---- the loop

    def run(self, document: dict[str, Any] | None = None) -> int:
        """Serve until stopped; return the exit code. document: what the arbiter before an upgrade
        has left."""
        self._wakeup.install(SIGNALS)
        orphans.inherit()
        self.terminal.ignores_hangup = signal.SIGHUP in self._wakeup.ignored
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._on_wakeup)
        try:
            if document is None:
                self._control.open()
                self.begin([])
            else:
                self.upgrade.resume(document)
            while self.state != "stopped":
                self.turn()
                self._wait()
        except ConfigError:
            raise
        except Exception:
            log.critical("the arbiter failed; all processes are killed", exc_info=True)
            raise
        finally:
            self.fleet.kill_all()
            self._control.close()
            if self._exit_code == 0:
                log.info("stopped")
            setup.flush()
        return self._exit_code

    def turn(self) -> None:
        """Reap; then one message; then the chores, if no message waits or they have waited long
        enough."""
        for process, status in self.fleet.children.reap():
            self._drain(process)
            self._on_death(self.fleet.died(process, status))
        if self._messages:
            self._messages.popleft()()
        now = self._look_at_clock(0.0)
        if not self._messages or now >= self._next_chores:
            self._next_chores = now + CHORES_SECONDS
            self._do_chores(now)
        if self.state == "stopping" and self.fleet.has_left:
            grace = self.settings.graceful_timeout
            if self.callbacks.finish(self._exit_code == 0, grace):
                self.state = "stopped"

    def _on_death(self, death: Death) -> None:
        """A child is dead. Its reason goes to where it is waited for."""
        process, reason, is_told = death.process, death.reason, False
        if process.role is Role.CALLBACKS:
            self.callbacks.on_end(process, death.status, reason)
        elif process.role is Role.TRIAL:
            self.upgrade.on_trial_end(death.status, reason)
        elif process.role is Role.WATCHER:
            self.reloader.on_watcher_end(self._clock())
        elif process.role is Role.PROBE and process.state is not State.DECLARED:
            self.advance(ProbeFailed(reason, process.traceback))
        elif death.end is End.LOST:
            slot = self.fleet.slots[process.worker, process.id]
            is_told = self.advance(SlotFailed(slot, reason, process.traceback))
        self.fleet.bury(death, is_told)
        if process.role is Role.WORKER:
            self.callbacks.call("on_worker_exit", process.worker, process.id, process.pid, reason)
        self.advance(ProcessLeft())

    def _wait(self) -> None:
        if self._messages or self.state == "stopped":
            return
        askers = (self.callbacks, self.reports, self._attendants)
        deadlines = [each.next_deadline() for each in askers]
        due = min(self._next_tick, self.fleet.next_deadline(self._may_fill), *deadlines)
        found = self._selector.select(max(0.0, due - self._clock()))
        self._look_at_clock(due)
        for key, mask in found:
            key.data(mask)

    def _look_at_clock(self, due: float) -> float:
        """The time now. due: until when the arbiter had nothing to do; what is later than that, it
        stood still."""
        now = self._clock()
        late = now - max(due, self._seen)
        self._seen = now
        if late > STANDSTILL and not self._excused:
            self._stood_still(now, late)
        return now

    def _stood_still(self, now: float, seconds: float) -> None:
        """SIGSTOP, a frozen container, a suspended machine: let the processes wake up before they
        are judged."""
        if seconds > NOTABLE_STANDSTILL:
            log.warning(
                "the arbiter stood still for %.1f s; its processes get that much more time", seconds
            )
        watchdog.postpone(self.fleet.children.by_pid.values(), seconds)
        self._next_tick = now + TICK
        self._excused = True

    def _do_chores(self, now: float) -> None:
        watchdog.enforce_deadlines(self.fleet.children, now)
        self.reports.expire(now)
        self.callbacks.start_due(now)
        if self.fleet.orphans:
            self.fleet.end_orphans(now)
        if not self.is_stopping:
            self.fleet.fill_slots(now, self._may_fill)
            if not self._messages:  # an exec would lose them
                self.upgrade.proceed()
        if now >= self._next_tick:
            self._next_tick = now + TICK
            self._excused = False
            setup.tick()
            self.log_files.turn_over(now)
            self._control.pulse(now)
            self.sampler.sample(self.fleet.children.by_pid.values(), now)
            watchdog.check_beats(self.fleet.children, now)
            self.fleet.oom.poll(now)
            self.fleet.orphans.note(self.fleet.children.strangers())
            self._recycle(now)
            self.advance(ProcessLeft())  # one that is waited for may hang
        self._attendants.attend(
            now
        )  # last: the watchdog is told that all is well only if all this was done

    def has_news(self) -> bool:
        """True if something has arrived that is not dealt with yet. Signals that come later are not
        looked for."""
        self._on_wakeup(0)
        return bool(self._messages) or self._control.is_busy()

    def _on_wakeup(self, _mask: int) -> None:
        for number in self._wakeup.read():
            self._messages.append(partial(self._signalled, signal.Signals(number)))

    def _on_call(self, call: Call) -> None:
        self._messages.append(partial(control_commands.answer, self, call))

    def _on_child_message(self, message: ChildMessage) -> None:
        self._messages.append(partial(child_messages.handle, self, message))

    def _drain(self, process: Process) -> None:
        """Handle everything that a dead child has said, before its death is."""
        for _ in range(len(self._messages)):
            self._messages.popleft()()
        for message in self.fleet.children.drain(process):
            child_messages.handle(self, message)

    def _recycle(self, now: float) -> None:
        """Let what is over a limit get a successor; not during a rollout."""
        fleet = self.fleet
        self.recycler.observe(fleet.children.by_pid.values(), self.sampler.rss, now)
        if self.rollouts.current is None:
            for each in self.recycler.due(fleet.slots.values(), now):
                recycle(*each)

    # ---- messages

    def _signalled(self, number: signal.Signals) -> None:
        if number != signal.SIGCHLD:
            log.info("received %s", number.name)
        self._on_signal[SIGNALS[number]]()

    def _may_fill(self, slot: Slot) -> bool:
        """False while a rollout sees to it that `slot` is filled."""
        return self.rollouts.current is None or self.rollouts.current.may_fill(slot)

    @property
    def is_settled(self) -> bool:
        """True while no helper child runs, and none is to be started."""
        return self.callbacks.is_idle and not self.fleet.has_helpers

    # ---- start, reload, scale

    def begin(self, calls: Sequence[Call]) -> None:
        """Begin the start, or a reload for `calls`."""
        first = self.state == "starting"
        rollout = Rollout(
            self.fleet, lambda: reread(self.settings), calls, first=first, clock=self._clock
        )
        self.rollouts.begin(rollout)
        if not first:
            self.enter("reloading")
        self._follow(rollout.begin())

    def reload(self, call: Call | None = None) -> None:
        """Begin a reload, or let one follow the start or the reload that goes on."""
        calls = [call] if call is not None else []
        if self.is_stopping:
            log.warning("no reload: the instance is %s", self.state)
            for refused in calls:
                refused.finish(1, error=f"the instance is {self.state}")
        elif self.rollouts.follow(calls):
            for waiting in calls:
                waiting.send({"step": f"the instance is {self.state}; the reload follows"})
        else:
            self.begin(calls)

    def advance(self, event: Event) -> bool:
        """Tell the rollout that goes on, if there is one; True if that is its end."""
        rollout = self.rollouts.current
        return rollout is not None and self._follow(rollout.on(event))

    def _follow(self, outcome: Outcome | None) -> bool:
        """Do what a rollout asks for; True if it is over."""
        if isinstance(outcome, Commit):
            self.fleet.commit(outcome.plan, outcome.generation, outcome.settings)
            log.setLevel(self.settings.log_level.upper())
            if outcome.whole:
                self.fleet.reconcile_slots()
            return self.advance(Committed())
        if isinstance(outcome, Ended):
            self._rollout_ended(outcome)
        return outcome is not None

    def _rollout_ended(self, outcome: Ended) -> None:
        self.rollouts.end()
        succeeded = outcome.error is None
        if self.state == "starting":
            self._started_up(outcome.error, outcome.traceback)
        else:
            self.rollouts.reload_ended(outcome.error, outcome.seconds)
            self.enter("running")
            if succeeded:
                self.callbacks.call_all("on_master_reload")
        self.fleet.handovers.stop()
        if succeeded:
            self.reloader.succeeded()
        self._resume_waiting()

    def _resume_waiting(self) -> None:
        """Do what has waited for the rollout."""
        following = self.rollouts.resume()
        if following is not None and self.is_stopping:
            for call in following:
                call.finish(1, error=f"the instance is {self.state}")
        elif following is not None:
            self.begin(following)

    def _started_up(self, error: str | None, traceback: str) -> None:
        if error is None:
            self.enter("running")
            self._launch.ready(ready_message(self))
            return
        self._launch.failed(f"{traceback}gworker: error: {error}")
        if self.settings.reload and not self.settings.daemon:
            log.warning("not started; --reload waits for a change")
            self.fleet.plan = Plan()
            self.fleet.reconcile_slots()
        else:
            self._exit_code = 1
            self.stop(quick=True)

    def scale(self, worker: str, count: int) -> None:
        """Set the number of processes of a Worker, while no rollout goes on. Raises ConfigError."""
        if self.is_stopping:
            raise ConfigError(f"the instance is {self.state}")
        plan = self.fleet.plan.with_count(worker, count)
        self.fleet.listeners.open_for(plan)
        self.fleet.plan = plan
        self.fleet.reconcile_slots()
        log.info("%s has %d process%s from now on", worker, count, "" if count == 1 else "es")

    def scale_all(self, step: int) -> None:
        """`step` processes more for every Worker, once no rollout goes on."""
        self.rollouts.when_idle(lambda: self._scale_all(step))

    def _scale_all(self, step: int) -> None:
        for worker, count in self.fleet.plan.counts.items():
            try:
                self.scale(worker, count + step)
            except ConfigError as error:
                log.warning("%s", error)

    # ---- states

    def resumed(self, calls: list[Call]) -> None:
        """This process was upgraded: serve on, and replace the processes for `calls`."""
        self.enter("running")
        self.begin(calls)

    def enter(self, state: str) -> None:
        """The one door from state to state."""
        changed, self.state = state != self.state, state
        if changed:
            self.supervision.entered(state)

    def stop(self, quick: bool = False) -> None:
        """Stop everything; a second call, like a quick one, cuts the grace short."""
        quick = quick or self.is_stopping
        self.enter("stopping")
        self.upgrade.abandon("the instance is stopping")
        if (rollout := self.rollouts.end()) is not None:
            rollout.abandon("the instance is stopping")
            if rollout.first and self._exit_code == 0:
                self._launch.failed("gworker: error: stopped before it was ready")
                self._exit_code = 1
            self._resume_waiting()
        self.fleet.stop(quick)
        self.callbacks.stop(quick)

    def _hung_up(self) -> None:
        meaning = self.terminal.meaning(self._clock())
        if meaning == "reload":
            self.reload()
        elif meaning == "stop" and not self.is_stopping:
            log.info("the terminal was closed")
            self.stop()

    def _leave_in_child(self) -> None:
        """In a forked child: drop everything that is the arbiter's."""
        self._wakeup.close_in_child(SIGNALS)
        self._control.close_in_child()
        self._files.close_in_child()
        self._launch.close_in_child()
        self._attendants.close_in_child()
        self._selector.close()
