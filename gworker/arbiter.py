"""The arbiter: it keeps worker processes alive, and knows processes, not bytes.

One turn reaps the dead, then handles one message (a signal, a request, a message of a child),
looked up in a table. When none is left it does the chores, and while more keep coming it does them
all the same, CHORES_SECONDS after the last time; then the loop sleeps until the earliest deadline.
A turn neither sleeps nor blocks. The arbiter runs no user code, imports no gevent and has one
thread.

`master.instance` decides what happens to the processes. Nothing in `master` holds the arbiter: its
parts post messages to the queue here, or return values.
"""

from __future__ import annotations

import logging
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.logs import setup
from gworker.master import control_commands, orphans, upgrade_state, watchdog
from gworker.master.children import ChildMessage, Children, Kernel
from gworker.master.control_connection import Call
from gworker.master.control_server import ControlServer
from gworker.master.fleet import Fleet
from gworker.master.instance import Instance
from gworker.master.instance_view import InstanceState
from gworker.master.listeners import Listeners
from gworker.master.log_files import LogFiles
from gworker.master.process_stats import Sampler
from gworker.master.runtime_files import RuntimeCheck, RuntimeFiles
from gworker.master.slots import Process
from gworker.master.spawner import Entry
from gworker.master.systemd import Invocation
from gworker.master.upgrade import UpgradeResources
from gworker.master.upgrade_state import Document
from gworker.system.daemon import Launch
from gworker.system.signal_pipe import SignalPipe
from gworker.system.unix_socket import UnixFile

log = logging.getLogger("gworker")

# Seconds between the chores that nothing else calls for: rates, and processes that hang.
TICK = 1.0

# How long messages may put the chores off: processes that never stop talking must not keep a hung
# one alive.
CHORES_SECONDS = 0.1


class Arbiter:
    """The loop of one instance.

    document: what the arbiter before an upgrade has left; then ConfigError is raised if this one
    cannot take over.
    """

    def __init__(
        self,
        settings: Settings,
        launch: Launch,
        files: RuntimeFiles,
        entry: Entry,
        outputs: setup.Outputs,
        invocation: Invocation,
        document: Document | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        kernel: Kernel | None = None,
        sampler: Sampler | None = None,
        signal_pipe: SignalPipe | None = None,
    ) -> None:
        self.messages: deque[Callable[[], object]] = deque()  # each has a turn of its own
        self._next_tick = self._next_chores = 0.0
        self._clock = clock
        self._standstill = watchdog.Standstill(clock())
        self.selector = selectors.DefaultSelector()
        self._launch = launch
        self._files = files
        self._signal_pipe = signal_pipe or SignalPipe()
        self._sampler = sampler or Sampler()
        self.control = ControlServer(files.socket_path, self.selector, self._on_call)
        children = Children(
            self.selector, self._on_child_message, self._close_in_child, frozenset(SIGNALS),
            clock, kernel,
        )  # fmt: skip
        broker_file = UnixFile(settings.broker_mode, settings.user, settings.broker_group)
        listeners = Listeners(invocation.sockets, broker_file)
        self.fleet = Fleet(settings, children, listeners, entry, clock)
        self._document = document
        if document is not None:
            upgrade_state.restore(self.fleet, document)
        resources = UpgradeResources(
            files, self.control, outputs, invocation, SIGNALS.keys(), settings.working_directory
        )
        self.instance = Instance(
            self.fleet, launch, self._sampler, resources, self.has_news, document
        )
        self.log_files = LogFiles(self.fleet, outputs)
        self._tickers = (  # supervision last: it reports that all the other chores were done
            self.instance.reloader,
            RuntimeCheck(files, self.control, self.fleet.broker, clock),
            self.instance.supervision,
        )

    def run(self) -> int:
        """Serve until stopped; return the exit code."""
        self._signal_pipe.install(SIGNALS)
        orphans.inherit()
        if signal.SIGHUP in self._signal_pipe.ignored:
            self.instance.terminal.ignore_hangup()
        self.selector.register(self._signal_pipe, selectors.EVENT_READ, self._on_signals)
        try:
            if self._document is None:
                self.control.open()
                self.fleet.broker.open(self._files.broker_path, self.fleet.settings)
                self.instance.begin()
            else:
                self.instance.resume(self._document)
            while self.instance.state is not InstanceState.STOPPED:
                self.turn()
                self.wait()
        except ConfigError:
            raise
        except Exception:
            log.critical("the arbiter failed; all processes are killed", exc_info=True)
            raise
        finally:
            self.fleet.kill_all()
            self.control.close()
            if self.instance.exit_code == 0:
                log.info("stopped")
            setup.flush()
        return self.instance.exit_code

    # ---- the turn

    def turn(self) -> None:
        """Reap; then one message; then the chores, if no message waits or they have waited long
        enough."""
        for process, wait_status in self.fleet.children.reap():
            self._drain(process)
            self.instance.bury(self.fleet.died(process, wait_status))
        if self.messages:
            self.messages.popleft()()
        now = self._look_at_clock()
        if not self.messages or now >= self._next_chores:
            self._next_chores = now + CHORES_SECONDS
            self._do_chores(now)
        self.instance.end_if_left()

    def wait(self) -> None:
        """Sleep until something arrives or is due."""
        if self.messages or self.instance.state is InstanceState.STOPPED:
            return
        found = self.selector.select(max(0.0, (due := self.next_deadline()) - self._clock()))
        self._look_at_clock(due)
        for key, mask in found:
            key.data(mask)

    def next_deadline(self) -> float:
        instance = self.instance
        parts = (instance.callbacks, instance.reports, *self._tickers)
        fleet_due = self.fleet.next_deadline(instance.rollouts.may_fill)
        return min(self._next_tick, fleet_due, *(each.next_deadline() for each in parts))

    def _look_at_clock(self, due: float = 0.0) -> float:
        now = self._clock()
        if seconds := self._standstill.look(now, due):
            watchdog.postpone(self.fleet.children.by_pid.values(), seconds)
            self._next_tick = now + TICK
        return now

    def _do_chores(self, now: float) -> None:
        fleet, instance = self.fleet, self.instance
        watchdog.enforce_deadlines(fleet.children, now)
        instance.reports.expire(now)
        instance.callbacks.start_due(now)
        fleet.broker.tick(now)
        fleet.molds.tick(now)
        if fleet.orphans:
            fleet.end_orphans(now)
        if not fleet.is_stopping:
            fleet.fill_slots(now, instance.rollouts.may_fill)
            if not self.messages:  # an exec would lose them
                instance.proceed_with_upgrade()
        if now >= self._next_tick:
            self._next_tick = now + TICK
            self._tick(now)
        for each in self._tickers:
            each.tick(now)

    def _tick(self, now: float) -> None:
        fleet = self.fleet
        self._standstill.rearm()
        setup.tick()
        self.log_files.turn_over(now)
        self.control.pulse(now)
        self._sampler.sample(fleet.children.by_pid.values(), now)
        watchdog.check_beats(fleet.children, now)
        fleet.oom.poll(now)
        if fleet.orphans.missed is not None:
            fleet.end_orphans(now, *fleet.orphans.missed)
        fleet.orphans.note(fleet.children.strangers())
        self.instance.recycle(now)
        self.instance.advance()

    # ---- messages

    def has_news(self) -> bool:
        """True if something has arrived that is not dealt with yet. Signals that come later are not
        looked for."""
        self._on_signals(0)
        return bool(self.messages) or self.control.is_busy()

    def _on_signals(self, _mask: int) -> None:
        for number in self._signal_pipe.read():
            self.messages.append(partial(self.handle_signal, signal.Signals(number)))

    def _on_call(self, call: Call) -> None:
        self.messages.append(partial(control_commands.answer, self.instance, call))

    def _on_child_message(self, message: ChildMessage) -> None:
        self.messages.append(partial(self.instance.handle, message))

    def _drain(self, process: Process) -> None:
        # Handle the last messages of a dead child before its death.
        for _ in range(len(self.messages)):
            self.messages.popleft()()
        for message in self.fleet.children.drain(process):
            self.instance.handle(message)

    def handle_signal(self, number: signal.Signals) -> None:
        if number != signal.SIGCHLD:
            log.info("received %s", number.name)
        SIGNALS[number](self)

    def _close_in_child(self) -> None:
        # In a forked child: drop everything that is the arbiter's.
        self._signal_pipe.close_in_child(SIGNALS)
        self.control.close_in_child()
        self._files.close_in_child()
        self._launch.close_in_child()
        self.selector.close()


# What each signal means to the arbiter. docs/signals.md is checked against this table.
SIGNALS: dict[signal.Signals, Callable[[Arbiter], object]] = {
    signal.SIGHUP: lambda arbiter: arbiter.instance.hang_up(),
    signal.SIGTERM: lambda arbiter: arbiter.instance.stop(),
    signal.SIGINT: lambda arbiter: arbiter.instance.stop(quick=True),
    signal.SIGQUIT: lambda arbiter: arbiter.instance.stop(quick=True),
    signal.SIGTTIN: lambda arbiter: arbiter.instance.scale_all(+1),
    signal.SIGTTOU: lambda arbiter: arbiter.instance.scale_all(-1),
    signal.SIGUSR1: lambda arbiter: arbiter.log_files.reopen(),
    signal.SIGUSR2: lambda arbiter: arbiter.instance.upgrade(),
    signal.SIGCHLD: lambda arbiter: None,  # each turn reaps
}
