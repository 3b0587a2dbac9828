"""One instance of gworker: its state, and what can be done to it.

    STARTING → RUNNING ⇄ RELOADING
        any of them → STOPPING → STOPPED

The loop (`arbiter.Arbiter`) calls it with messages of children, deaths, signals and commands. What
cannot be done at once waits in the `RolloutQueue`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gworker.errors import ConfigError
from gworker.master import recycler, status
from gworker.master.autoreload import Reloader
from gworker.master.child_messages import ChildMessages
from gworker.master.children import ChildMessage
from gworker.master.connection_reports import ConnectionReports
from gworker.master.control_connection import Call
from gworker.master.exit_status import Death, End
from gworker.master.fleet import Fleet
from gworker.master.instance_view import InstanceState, InstanceView
from gworker.master.master_callbacks import MasterCallbacks
from gworker.master.plan import Plan
from gworker.master.process_stats import Sampler
from gworker.master.rollout_events import Ended, ProbeFailed, ProcessLeft, SlotFailed
from gworker.master.rollout_queue import RolloutQueue
from gworker.master.slots import Role
from gworker.master.systemd import Supervision
from gworker.master.terminal import Terminal, TerminalState
from gworker.master.upgrade import Upgrade, UpgradeResources
from gworker.master.upgrade_state import Document, to_document
from gworker.system.daemon import Launch

log = logging.getLogger("gworker")


class Instance:
    """The state of one instance, and the parts that change it.

    resources: what stays open over an upgrade. has_news: whether something has arrived that an
    upgrade would lose. document: what the arbiter before an upgrade knew.
    """

    def __init__(
        self,
        fleet: Fleet,
        launch: Launch,
        sampler: Sampler,
        resources: UpgradeResources,
        has_news: Callable[[], bool],
        document: Document | None = None,
    ) -> None:
        saved = document or {}
        self.state = InstanceState.STARTING
        self.exit_code = 0
        self.fleet = fleet
        self.terminal = Terminal(TerminalState(*saved["terminal"]) if saved else None)
        self.rollouts = RolloutQueue(fleet, saved.get("last_reload"))
        self.callbacks = MasterCallbacks(
            lambda *call: fleet.spawner.callbacks(fleet.settings, *call),
            lambda: fleet.plan.declarations,
            fleet.clock,
        )
        self.reports = ConnectionReports(fleet.clock)
        self.reloader = Reloader(fleet, self.reload)
        self.supervision = Supervision(resources.invocation, self.view)
        self._started: float = saved["started"] if saved else fleet.clock()
        self._launch = launch
        self._sampler = sampler
        self._messages = ChildMessages(fleet, self.rollouts, self.reports, self.reloader)
        self._upgrade = Upgrade(fleet, self.rollouts, resources, self.document, has_news)

    # ---- states

    def _enter(self, state: InstanceState) -> None:
        # The one door from state to state.
        changed, self.state = state is not self.state, state
        if changed:
            self.supervision.entered(state)

    def begin(self) -> None:
        self._roll_out([])

    def resume(self, document: Document) -> None:
        """Go on where the arbiter before an upgrade has stopped, and reload. document: what that
        has left open."""
        calls = self._upgrade.resume(document)
        self._enter(InstanceState.RUNNING)
        self._roll_out(calls)

    def stop(self, quick: bool = False) -> None:
        """Stop everything; a second call, like a quick one, cuts the grace short."""
        quick = quick or self.fleet.is_stopping
        self._enter(InstanceState.STOPPING)
        self._upgrade.abandon("the instance is stopping")
        rollout = self.rollouts.abandon("the instance is stopping")
        if rollout is not None and rollout.first and self.exit_code == 0:
            self._launch.failed("gworker: error: stopped before it was ready")
            self.exit_code = 1
        self.fleet.stop(quick)
        self.callbacks.stop(quick)
        if rollout is not None:
            self._resume_waiting()

    def end_if_left(self) -> None:
        """The end of a stop: all processes have left, the broker last, and the last callbacks were
        called."""
        if self.state is not InstanceState.STOPPING or not self.fleet.has_left:
            return
        has_broker = not self.fleet.broker.stop()
        is_done = self.callbacks.finish(self.exit_code == 0, self.fleet.settings.graceful_timeout)
        if is_done and not has_broker:
            self._enter(InstanceState.STOPPED)

    def hang_up(self) -> None:
        """A HUP has come: an order to reload, or the end of the terminal."""
        meaning = self.terminal.meaning(self.fleet.clock())
        if meaning == "reload":
            self.reload()
        elif meaning == "stop" and not self.fleet.is_stopping:
            log.info("the terminal was closed")
            self.stop()

    # ---- start and reload

    def reload(self, call: Call | None = None) -> None:
        """Begin a reload, or let one follow the start or the reload that goes on."""
        calls = [call] if call is not None else []
        if self.fleet.is_stopping:
            log.warning("no reload: the instance is %s", self.state)
            self._refuse(calls)
        elif self.rollouts.follow(calls):
            for waiting in calls:
                waiting.send({"step": f"the instance is {self.state}; the reload follows"})
        else:
            self._roll_out(calls)

    def _roll_out(self, calls: Sequence[Call]) -> None:
        first = self.state is InstanceState.STARTING
        if not first:
            self._enter(InstanceState.RELOADING)
        self._conclude(self.rollouts.begin(calls, first))

    def _refuse(self, calls: Sequence[Call]) -> None:
        for call in calls:
            call.finish(1, error=f"the instance is {self.state}")

    def _conclude(self, ended: Ended | None) -> None:
        # After the end of a rollout: enter the next state, then start the waiting tasks.
        if ended is None:
            return
        is_start = self.state is InstanceState.STARTING
        if is_start and ended.error is not None:
            self._start_failed(f"{ended.traceback}gworker: error: {ended.error}")
        else:
            self._enter(InstanceState.RUNNING)
        if ended.error is None:
            if is_start:
                self._launch.ready(status.ready_message(self.view()))
            else:
                self.callbacks.call_all("on_master_reload")
            self.reloader.succeeded()
        self._resume_waiting()

    def _start_failed(self, message: str) -> None:
        self._launch.failed(message)
        settings = self.fleet.settings
        if settings.reload and not settings.daemon:
            log.warning("not started; --reload waits for a change")
            self.fleet.plan = Plan()
            self.fleet.reconcile_slots()
        else:
            self.exit_code = 1
            self.stop(quick=True)

    def _resume_waiting(self) -> None:
        calls = self.rollouts.resume()
        if calls is not None and self.fleet.is_stopping:
            self._refuse(calls)
        elif calls is not None:
            self._roll_out(calls)

    # ---- counts, upgrade

    def scale(self, worker: str, count: int, call: Call | None = None) -> None:
        """Set the number of processes of a Worker, once no rollout goes on."""
        self.rollouts.when_idle(partial(self._scale, worker, count, call))

    def _scale(self, worker: str, count: int, call: Call | None = None) -> None:
        try:
            self.fleet.scale(worker, count)
        except ConfigError as error:
            if call is None:
                log.warning("%s", error)
            else:
                call.finish(1, error=str(error))
            return
        if call is not None:
            call.send({"step": f"{worker}: {count} process{'' if count == 1 else 'es'}"})
            call.finish(0)

    def scale_all(self, step: int) -> None:
        """`step` processes more for every Worker, once no rollout goes on."""
        self.rollouts.when_idle(partial(self._scale_all, step))

    def _scale_all(self, step: int) -> None:
        for worker, count in self.fleet.plan.counts.items():
            self._scale(worker, count + step)

    def upgrade(self, call: Call | None = None) -> None:
        self._upgrade.request(call)

    def proceed_with_upgrade(self) -> None:
        """Exec, if an upgrade is due. To be called while no message waits."""
        self._upgrade.proceed(self.callbacks.is_idle and not self.fleet.has_helpers)

    # ---- what children say, and their ends

    def handle(self, message: ChildMessage) -> None:
        self._conclude(self._messages.handle(message))

    def bury(self, death: Death) -> None:
        """A child is dead: pass the reason to the part that waits for that child."""
        process, reason, ended = death.process, death.reason, None
        if process.role is Role.CALLBACKS:
            self.callbacks.on_end(process, death.status, reason)
        elif process.role is Role.TRIAL:
            self._upgrade.on_trial_end(death.status, reason)
        elif process.role is Role.WATCHER:
            self.reloader.on_watcher_end(process, self.fleet.clock())
        elif self.rollouts.waits_for(process):
            ended = self.rollouts.advance(ProbeFailed(reason, process.traceback))
        elif process.role is Role.WORKER and death.end is End.LOST:
            slot = self.fleet.slots[process.worker, process.id]
            ended = self.rollouts.advance(SlotFailed(slot, reason, process.traceback))
        self._conclude(ended)
        self.fleet.bury(death, is_told=ended is not None)
        if process.role is Role.WORKER:
            self.callbacks.call("on_worker_exit", process.worker, process.id, process.pid, reason)
        self.advance()

    def advance(self) -> None:
        """End the rollout if it waits for nothing any more: a process is dead, or may hang."""
        self._conclude(self.rollouts.advance(ProcessLeft()))

    def recycle(self, now: float) -> None:
        """Let the processes that are over a limit get a successor; not during a rollout."""
        fleet = self.fleet
        recycler.observe(fleet.children.by_pid.values(), self._sampler.rss, now)
        if self.rollouts.current is None and not fleet.is_stopping:
            recycler.recycle_due(fleet.slots.values(), now)

    # ---- reports

    def view(self) -> InstanceView:
        return InstanceView(
            now=self.fleet.clock(),
            state=self.state,
            started=self._started,
            is_rolling_out=self.rollouts.current is not None,
            last_reload=self.rollouts.report(),
            fleet=self.fleet,
        )

    def status(self) -> dict[str, Any]:
        return status.report(self.view(), self._sampler)

    def connections(self, call: Call, worker: str | None, limit: int | None) -> None:
        """Gather the connections, of one Worker or all, at most `limit` of each process."""
        self.reports.begin(call, self.view().serving(worker), limit)

    def document(self) -> Document:
        """What is known, for the arbiter after an upgrade."""
        return to_document(self.fleet, self._started, self.terminal.state, self.rollouts.report())
