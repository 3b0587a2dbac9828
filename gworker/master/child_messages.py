"""The messages of children to the arbiter, and what follows from each.

`children.MESSAGES` says what each looks like; here it has been checked already.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from gworker.ipc.assignment import MOVED, REPLACED
from gworker.master import handover_plan
from gworker.master.children import ChildMessage
from gworker.master.handover_survey import sentence
from gworker.master.rollout_events import Declared, HandedOver, SlotReady, Surveyed
from gworker.master.slots import Process, Role, State

if TYPE_CHECKING:
    from gworker.arbiter import Arbiter

log = logging.getLogger("gworker")

MOST_REASONS, MAX_REASON = 32, 200
"""How many reasons a process may give for what it keeps, and how many characters of each are
told."""


def handle(arbiter: Arbiter, received: ChildMessage) -> None:
    """Act on one message of a child; the descriptors that came with it are closed here."""
    process, message, descriptors = received
    event = message["event"]
    if event == "connections":
        arbiter.reports.received(process, message["request"], descriptors)
        return
    for descriptor in descriptors:
        os.close(descriptor)
    if event == "files":
        arbiter.reloader.loaded(message["files"], message["patterns"], message["since"])
    elif event == "changed" and process.role is Role.WATCHER:
        arbiter.reloader.changed(message["paths"], message["more"])
    elif event == "step":
        process.step = message["step"]
    elif event == "position":
        process.line = message["line"]
    elif event == "failed":
        process.failure, process.traceback = message["reason"], message["traceback"]
    elif event == "ready":
        _ready(arbiter, process)
    elif event == "replace":
        _replace(arbiter, process, message["reason"])
    elif event == "survey":
        arbiter.advance(Surveyed(process, _counts(message["staying"])))
    elif event == "handed_over":
        _handed_over(arbiter, process, _counts(message["staying"]))
    elif event == "declared" and process.role is Role.PROBE and process.state is State.BOOTING:
        process.to(State.DECLARED, process.deadline)
        arbiter.advance(Declared(message["workers"]))


def _ready(arbiter: Arbiter, process: Process) -> None:
    if (
        process.role is not Role.WORKER
        or process.state is not State.BOOTING
        or process.pid not in arbiter.fleet.children.by_pid
    ):
        return  # a process that is dead by now replaces none
    process.to(State.READY, None)
    slot = arbiter.fleet.slots[process.worker, process.id]
    predecessor = slot.promote(process, time.monotonic())
    log.info("%s is ready (pid %d, generation %d)", process.label, process.pid, process.generation)
    for sender in arbiter.fleet.retiring_of(process.worker):
        if sender.id == process.id or not arbiter.fleet.is_planned(
            sender
        ):  # its own successor did not live long
            handover_plan.link(sender, process)
    if predecessor is not None:
        if arbiter.rollouts.current is not None:
            arbiter.rollouts.current.survey.announce()
        # The last process of a listener has to empty its queue.
        arbiter.fleet.retire(
            predecessor, REPLACED if predecessor.key == process.key else MOVED, [process]
        )
    arbiter.advance(SlotReady(slot, process))


def _handed_over(arbiter: Arbiter, process: Process, staying: dict[str, int]) -> None:
    """All connections of `process` that could move at once have moved."""
    arbiter.fleet.handovers.mark_moved(process)
    if arbiter.rollouts.current is not None and process in arbiter.fleet.handovers:
        arbiter.advance(HandedOver(process, staying))
    elif not arbiter.is_stopping:
        for reason, count in staying.items():
            log.info("%s (pid %d): %s", process.label, process.pid, sentence(count, reason))


def _counts(told: dict[str, Any]) -> dict[str, int]:
    """What a process says of its connections, as far as it makes sense."""
    found = itertools.islice(told.items(), MOST_REASONS)
    return {
        reason[:MAX_REASON]: count for reason, count in found if type(count) is int and count > 0
    }


def _replace(arbiter: Arbiter, process: Process, reason: str) -> None:
    """A process wants to retire: first it gets a successor."""
    slot = arbiter.fleet.slots.get((process.worker, process.id))
    if slot is not None and slot.current is process and process.state is State.READY:
        arbiter.recycler.on_request(slot, process, reason, arbiter.rollouts.current is not None)
