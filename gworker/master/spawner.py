"""Forking a child for each role: what it runs, and which listeners it keeps.

What runs in a child is not known here: the process that starts the arbiter gives an `Entry`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from socket import socket
from typing import Any, Protocol

from gworker.config.settings import Settings
from gworker.ipc.assignment import Assignment
from gworker.ipc.channel import Channel
from gworker.ipc.connection_ids import ConnectionIds
from gworker.ipc.declaration import Declaration
from gworker.ipc.scoreboard import Row, Scoreboard
from gworker.master.children import NO_PLACE, Children
from gworker.master.handover_plan import compatibility
from gworker.master.listeners import Listeners
from gworker.master.plan import Place, Plan
from gworker.master.slots import Process, Role
from gworker.tls.key_files import pack


class Entry(Protocol):
    """What runs in a child. Returns its exit code."""

    def worker(self, assignment: Assignment, settings: Settings, row: Row, channel: Channel) -> int:
        """Serve the place that `assignment` says."""

    def probe(self, settings: Settings, channel: Channel) -> int:
        """Load the target and tell the declarations."""

    def mold(
        self,
        settings: Settings,
        row: Row,
        channel: Channel,
        board: Scoreboard,
        ids: ConnectionIds,
    ) -> int:
        """Load the target, tell the declarations, and fork worker processes."""

    def broker(
        self, listeners: Sequence[socket], settings: Settings, row: Row, channel: Channel
    ) -> int:
        """Be the local broker."""

    def hooks(
        self, settings: Settings, channel: Channel, worker: str, calls: Sequence[tuple[str,
        Sequence[Any]]],
        user: str | None, group: str | None,
    ) -> int:  # fmt: skip
        """Make `calls` of callbacks of `worker`: names, and arguments after the Worker."""


class Spawner:
    """Starts children. Its methods raise OSError if the system refuses one."""

    def __init__(self, children: Children, listeners: Listeners, entry: Entry) -> None:
        self._children = children
        self._listeners = listeners
        self._entry = entry

    def worker(
        self,
        place: Place,
        plan: Plan,
        generation: int,
        settings: Settings,
        is_start: bool = False,
        mold: Process | None = None,
    ) -> Process:
        """A process that serves `place` of `plan`. is_start: the instance starts. mold: the process
        that forks it; None: this one."""
        key, children = plan.key(place), self._children
        listener = self._listeners.held.get(key) if key is not None else None
        descriptors = listener.descriptors if listener is not None else ()
        declared, count = plan.declarations[place[0]], plan.counts[place[0]]
        assignment = Assignment(
            *place, generation, descriptors, children.scoreboard, children.ids, count,
            is_start, children.instance, self._listeners.broker.address, declared.user,
            declared.group, declared.files,
        )  # fmt: skip

        def main(row: Row, channel: Channel) -> int:
            self._listeners.close_in_child(descriptors)
            return self._entry.worker(assignment, settings, row, channel)

        if mold is None:
            process = children.fork(Role.WORKER, generation, settings, main, place)
        else:
            process = self._fork_from(mold, assignment, settings)
        process.key, process.count = key, count
        process.compatibility = compatibility(declared, settings)
        return process

    def _fork_from(self, mold: Process, assignment: Assignment, settings: Settings) -> Process:
        # What a process opens while it may, the arbiter opens for one that comes from the mold.
        with ExitStack() as opened:
            descriptors = [assignment.ids.opened()]
            opened.callback(os.close, descriptors[0])
            if assignment.files:
                descriptors.append(pack(assignment.files))
                opened.callback(os.close, descriptors[1])
            descriptors += assignment.listeners
            return self._children.fork_from(mold, settings, assignment.order(), descriptors)

    def mold(self, generation: int, settings: Settings) -> Process:
        """A child that loads the target, tells what it declares, and forks worker processes."""
        children = self._children

        def main(row: Row, channel: Channel) -> int:
            self._listeners.close_in_child()
            return self._entry.mold(settings, row, channel, children.scoreboard, children.ids)

        return children.fork(Role.MOLD, generation, settings, main)

    def probe(self, settings: Settings) -> Process:
        """A child that loads the target and tells what it declares with these settings."""
        return self.helper(
            Role.PROBE, settings, lambda channel: self._entry.probe(settings, channel)
        )

    def callbacks(
        self,
        settings: Settings,
        declared: Declaration,
        calls: Sequence[tuple[str, Sequence[Any]]],
        seconds: float,
    ) -> Process:
        """A child that makes `calls` of callbacks of the declared Worker within `seconds`."""
        name, user, group = declared.name, declared.user, declared.group

        return self.helper(
            Role.CALLBACKS,
            settings,
            lambda channel: self._entry.hooks(settings, channel, name, calls, user, group),
            (name, 0),
            seconds,
        )

    def broker(self, settings: Settings) -> Process:
        """The process of the local broker."""

        def main(row: Row, channel: Channel) -> int:
            kept = [listener.dup() for listener in self._listeners.broker.listeners]
            self._listeners.close_in_child()
            return self._entry.broker(kept, settings, row, channel)

        return self._children.fork(Role.BROKER, 0, settings, main)

    def helper(
        self,
        role: Role,
        settings: Settings,
        run: Callable[[Channel], int],
        place: Place = NO_PLACE,
        seconds: float | None = None,
    ) -> Process:
        """A child that executes `run` and needs no listener, within `seconds` (None: the boot
        timeout)."""

        def main(_: Row, channel: Channel) -> int:
            self._listeners.close_in_child()
            return run(channel)

        return self._children.fork(role, 0, settings, main, place, seconds)
