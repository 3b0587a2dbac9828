"""What a child says to the arbiter, and what follows from it.

`children.WORDS` says what each word looks like; here it has been checked already.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

from gworker import departures
from gworker.assignment import MOVED, REPLACED
from gworker.slots import Process, State

if TYPE_CHECKING:
    from gworker.arbiter import Arbiter

log = logging.getLogger("gworker")


def said(arbiter: Arbiter, process: Process, message: dict[str, Any], descriptors: list[int]) -> None:
    """Act on one word of `process`; the descriptors that came with it are ours to close."""
    event = message["event"]
    if event == "connections":
        arbiter.reports.received(process, message["request"], descriptors)
        return
    for descriptor in descriptors:
        os.close(descriptor)
    if event == "files":
        arbiter.reloader.loaded(message["files"], message["patterns"], message["since"])
    elif event == "step":
        process.step = message["step"]
    elif event == "position":
        process.line = message["line"]
    elif event == "failed":
        process.told, process.traceback = message["reason"], message["traceback"]
    elif event == "ready":
        _ready(arbiter, process)
    elif event == "replace":
        _replace(arbiter, process)
    elif event == "handed_over":
        process.departing = False
        if arbiter.reloads.current is not None:
            arbiter.reloads.current.departed()
    elif event == "declared" and process.is_probe and not process.declared:
        process.declared = True
        if arbiter.reloads.current is not None:
            arbiter.reloads.current.declared(message["workers"])


def _ready(arbiter: Arbiter, process: Process) -> None:
    if process.id < 0 or process.state is not State.BOOTING or process.pid not in arbiter.fleet.children.by_pid:
        return  # what is dead by now replaces nobody
    process.to(State.READY, None)
    slot = arbiter.fleet.slots[process.worker, process.id]
    predecessor = slot.became_ready(process, time.monotonic())
    log.info("%s is ready (pid %d, generation %d)", process.label, process.pid, process.generation)
    for giver in arbiter.fleet.retiring_of(process.worker):
        if giver.id == process.id or not arbiter.fleet.is_planned(giver):  # its own successor did not live long
            departures.link(giver, process)
    if predecessor is not None:
        # Who leaves a listener that nobody serves any more has to empty its queue.
        arbiter.fleet.retire(predecessor, REPLACED if predecessor.key == process.key else MOVED, [process])
    if arbiter.reloads.current is not None:
        arbiter.reloads.current.ready(slot, process)


def _replace(arbiter: Arbiter, process: Process) -> None:
    """A process wants to retire: first it gets a successor."""
    slot = arbiter.fleet.slots.get((process.worker, process.id))
    if slot is not None and slot.current is process and process.state is State.READY:
        slot.wants_successor = True
