"""The messages of children to the arbiter, and what follows from each.

`children.MESSAGES` lists the fields of each; the messages that come here have been checked. If a
message ends the current rollout, its handler returns that.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from typing import Any, ClassVar

from gworker.ipc.assignment import MOVED, REPLACED
from gworker.master import handover_plan, recycler
from gworker.master.autoreload import Reloader
from gworker.master.children import ChildMessage
from gworker.master.connection_reports import ConnectionReports
from gworker.master.fleet import Fleet
from gworker.master.rollout_events import Declared, Ended, HandedOver, SlotReady, Surveyed
from gworker.master.rollout_queue import RolloutQueue
from gworker.master.slots import Role, State

log = logging.getLogger("gworker")

# How many reasons a process may give for the connections that it keeps, and how many characters of
# each are shown.
MOST_REASONS, MAX_REASON = 32, 200

Handler = Callable[[Any, ChildMessage], Ended | None]


class ChildMessages:
    def __init__(
        self,
        fleet: Fleet,
        rollouts: RolloutQueue,
        reports: ConnectionReports,
        reloader: Reloader,
    ) -> None:
        self._fleet = fleet
        self._rollouts = rollouts
        self._reports = reports
        self._reloader = reloader

    def handle(self, message: ChildMessage) -> Ended | None:
        """Act on one message, close the descriptors that came with it; return the end of the
        rollout if that is what follows."""
        try:
            return self.HANDLERS[message.fields["event"]](self, message)
        finally:
            for descriptor in message.descriptors:
                os.close(descriptor)

    def _step(self, message: ChildMessage) -> None:
        message.process.step = message.fields["step"]

    def _position(self, message: ChildMessage) -> None:
        message.process.line = message.fields["line"]

    def _failed(self, message: ChildMessage) -> None:
        message.process.failure = message.fields["reason"]
        message.process.traceback = message.fields["traceback"]

    def _connections(self, message: ChildMessage) -> None:
        self._reports.received(message.process, message.fields["request"], message.descriptors)

    def _files(self, message: ChildMessage) -> None:
        found = message.fields
        self._reloader.loaded(found["files"], found["patterns"], found["since"])

    def _changed(self, message: ChildMessage) -> None:
        if message.process.role is Role.WATCHER:
            self._reloader.changed(message.fields["paths"], message.fields["more"])

    def _declared(self, message: ChildMessage) -> Ended | None:
        process = message.process
        if process.role not in (Role.PROBE, Role.MOLD) or process.has_declared:
            return None
        process.has_declared = True
        if process.role is Role.MOLD:
            if process.state is not State.BOOTING:
                return None
            process.to(State.READY, None)
            process.ready_at = self._fleet.clock()
            log.info("the mold is ready (pid %d, generation %d)", process.pid, process.generation)
            if process.generation == self._fleet.generation:
                return None  # it takes the place of one that has died
        return self._rollouts.advance(Declared(message.fields["workers"]))

    def _ready(self, message: ChildMessage) -> Ended | None:
        process, fleet = message.process, self._fleet
        if process.role not in (Role.WORKER, Role.BROKER) or process.state is not State.BOOTING:
            return None
        if process.pid not in fleet.children.by_pid:
            return None  # a process that is dead by now replaces none
        process.to(State.READY, None)
        if process.role is Role.BROKER:
            process.ready_at = fleet.clock()
            log.info("the broker is ready (pid %d)", process.pid)
            return None
        fleet.tell_of_deaths(process)
        slot = fleet.slots[process.worker, process.id]
        predecessor = slot.promote(process, fleet.clock())
        log.info(
            "%s is ready (pid %d, generation %d)", process.label, process.pid, process.generation
        )
        for sender in fleet.retiring_of(process.worker):
            # The successor of that slot did not live long, or there is none.
            if sender.id == process.id or not fleet.is_planned(sender):
                handover_plan.link(sender, process)
        if predecessor is not None:
            if (rollout := self._rollouts.current) is not None:
                rollout.survey.announce()
            # The last process of a listener has to empty its queue.
            why = REPLACED if predecessor.key == process.key else MOVED
            fleet.retire(predecessor, why, [process])
        return self._rollouts.advance(SlotReady(slot, process))

    def _replace(self, message: ChildMessage) -> None:
        process = message.process
        slot = self._fleet.slots.get((process.worker, process.id))
        if slot is not None and slot.current is process and process.state is State.READY:
            is_rolling_out = self._rollouts.current is not None
            recycler.on_request(slot, process, message.fields["reason"], is_rolling_out)

    def _told(self, message: ChildMessage) -> None:
        self._fleet.broker_was_told(message.fields["pid"])

    def _survey(self, message: ChildMessage) -> Ended | None:
        return self._rollouts.advance(Surveyed(message.process, _staying(message)))

    def _handed_over(self, message: ChildMessage) -> Ended | None:
        # All connections that could move at once have moved.
        process, staying, fleet = message.process, _staying(message), self._fleet
        fleet.handovers.mark_moved(process)
        if self._rollouts.current is not None and process in fleet.handovers:
            return self._rollouts.advance(HandedOver(process, staying))
        if not fleet.is_stopping:
            for reason, count in staying.items():
                text = handover_plan.sentence(count, reason)
                log.info("%s (pid %d): %s", process.label, process.pid, text)
        return None

    HANDLERS: ClassVar[dict[str, Handler]] = {
        "step": _step,
        "position": _position,
        "failed": _failed,
        "connections": _connections,
        "files": _files,
        "changed": _changed,
        "declared": _declared,
        "ready": _ready,
        "replace": _replace,
        "told": _told,
        "survey": _survey,
        "handed_over": _handed_over,
    }


def _staying(message: ChildMessage) -> dict[str, int]:
    # Counts of connections by reason. The process runs user code: drop what is no count.
    found = itertools.islice(message.fields["staying"].items(), MOST_REASONS)
    return {
        reason[:MAX_REASON]: count for reason, count in found if type(count) is int and count > 0
    }
