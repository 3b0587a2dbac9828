"""Which server gets a command, and what follows when it refuses.

Commands of one channel are done in the order in which they were submitted, also when a slot moves:
what a server has refused holds back all that follows on its channel, and what the former owner of
a partition still has holds back all for the new one.
"""

from __future__ import annotations

import bisect
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from gworker.broker.redis.command import Command
from gworker.broker.redis.commands import CommandLink
from gworker.broker.redis.nodes import Nodes
from gworker.broker.redis.operations import COMMON
from gworker.broker.redis.topology import Topology, text_of
from gworker.errors import BrokerDown, BrokerError

# Seconds until a command is tried again: while its slot moves, and while the server has no
# business to do it at all.
MOVING_SECONDS, AWAY_SECONDS = 0.05, 0.2

# Bytes of commands that are held back. What would exceed them fails.
MAX_HELD_BYTES = 16 << 20

# Where commands are held back: a partition and a channel in it, b"" for those without one.
_Place = tuple[int, bytes]


class _Held:
    """Commands that are held back, in their order; due: the moment to try the first one.

    tried: the first one, while it is on its way again.
    """

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.due = 0.0
        self.tried: Command | None = None

    def add(self, command: Command) -> None:
        bisect.insort(self.commands, command, key=lambda each: each.number)


class Router:
    """wake: called when `try_again` has something to do sooner than it has said."""

    def __init__(self, nodes: Nodes, wake: Callable[[], None]) -> None:
        self._nodes = nodes
        self._wake = wake
        self._numbers = itertools.count()
        self._lock = threading.Lock()  # nothing waits while it is held
        self._held: dict[_Place, _Held] = {}
        self._held_bytes = 0
        # Partitions, and how many of their former owners still have commands.
        self._draining: Counter[int] = Counter()
        self._is_closed = False

    def submit(self, command: Command) -> Command:
        """Send it to the owner of its partition. Raises BrokerDown."""
        with self._lock:
            command.number = next(self._numbers)
            place = command.partition, command.channel
            if place in self._held or (self._draining and self._draining[command.partition]):
                self._check_room(command)
                self._hold(command, 0.0)
            else:
                self._nodes.owner_of(command.partition).submit(command)
        return command

    def close(self) -> None:
        """Nothing is tried again."""
        with self._lock:
            self._is_closed = True
            held, self._held = self._held, {}
            self._held_bytes = 0
        for each in held.values():
            for command in each.commands:
                command.fail(BrokerDown("the broker is closed"))

    def _check_room(self, command: Command) -> None:
        # Under the lock.
        if self._held_bytes + len(command.data) > MAX_HELD_BYTES:
            raise BrokerDown(f"{self._held_bytes} bytes of commands wait until slots have moved")

    # -- another topology

    def move(self, topology: Topology) -> None:
        """Send commands to these owners, after the former ones have done what they have."""
        before = self._nodes.topology.owners
        moved: dict[CommandLink, list[int]] = {}
        for address in topology.masters:
            self._nodes.reach(address)
        with self._lock:
            for partition, owner in enumerate(topology.owners):
                former = before[partition]
                if former is not None and former != owner and former in self._nodes.links:
                    moved.setdefault(self._nodes.links[former], []).append(partition)
            self._nodes.topology = topology
            for link, partitions in moved.items():
                self._drain(link, partitions)
        self._nodes.drop_others()

    def _drain(self, link: CommandLink, partitions: Collection[int]) -> None:
        # Under the lock. The last command of the link: when it ends, those before it have ended.
        last = Command(COMMON, (b"PING",), waits=False)
        last.on_end = lambda _: self._drained(partitions)
        try:
            link.submit(last)
        except BrokerDown:
            return  # and so it has none
        self._draining.update(partitions)

    def _drained(self, partitions: Collection[int]) -> None:
        with self._lock:
            self._draining -= Counter(partitions)
        self._wake()

    # -- what was refused

    def refused(self, command: Command, link: CommandLink, error: ResponseError) -> None:
        """The server has not done it."""
        where = text_of(link.address)
        if isinstance(error, NoScriptError) and command.source:
            command.send_source()
            self._retry(command, 0.0, str(error))
        elif isinstance(error, MovedError):
            self._nodes.look_soon()
            self._retry(command, MOVING_SECONDS, f"slot {error.slot_id} has moved")
        elif isinstance(error, AskError):
            command.asked = error.host, error.port
            self._nodes.reach(command.asked)
            self._retry(command, 0.0, f"slot {error.slot_id} is being moved")
        elif isinstance(error, TryAgainError):
            self._retry(command, MOVING_SECONDS, "its slot is being moved")
        elif isinstance(error, (ClusterDownError, ReadOnlyError)):
            self._nodes.look_soon()
            self._retry(command, AWAY_SECONDS, f"{where}: {error}")
        elif isinstance(error, OutOfMemoryError):
            command.fail(BrokerError(f"{where} is full: its maxmemory is reached"))
        else:
            # Behind its words an error of a script names the script.
            words = str(error).partition(" script: ")[0]
            command.fail(BrokerError(f"{where}: {words}"))

    def _retry(self, command: Command, seconds: float, why: str) -> None:
        due = time.monotonic() + seconds
        if due > command.deadline or self._is_closed:
            command.fail(BrokerDown(why))
            return
        with self._lock:
            self._hold(command, due)
        self._wake()

    def _hold(self, command: Command, due: float) -> None:
        # Under the lock.
        held = self._held.setdefault((command.partition, command.channel), _Held())
        if held.tried is command:
            held.tried = None
        command.on_end = None
        command.is_awaited = False  # it is sent by the thread that tries again
        held.add(command)
        self._held_bytes += len(command.data)
        held.due = max(held.due, due)

    # -- trying again

    def try_again(self, most: float) -> float:
        """Send the first command of each place whose time has come. Seconds until the next one's,
        or `most`."""
        if not self._held:
            return most
        now = time.monotonic()
        failed: list[tuple[Command, BrokerDown]] = []
        with self._lock:
            for place, held in list(self._held.items()):
                if held.tried is None and not self._draining[place[0]]:
                    if held.due <= now:
                        failed += self._try(place, held, now)
                    else:
                        most = min(most, held.due - now)
        for command, error in failed:
            command.fail(error)
        return most

    def _try(self, place: _Place, held: _Held, now: float) -> list[tuple[Command, BrokerDown]]:
        # Under the lock. The commands that have failed, to be told without it.
        failed: list[tuple[Command, BrokerDown]] = []
        while held.commands:
            command = held.commands.pop(0)
            self._held_bytes -= len(command.data)
            if command.is_given_up or now > command.deadline:
                failed.append((command, BrokerDown("it was too late to try again")))
                continue
            command.on_end = self._tried
            try:
                self._link_of(command).submit(command)
            except BrokerDown as down:
                command.on_end = None
                failed.append((command, down))
            else:
                held.tried = command
                return failed
        del self._held[place]
        return failed

    def _link_of(self, command: Command) -> CommandLink:
        asked = self._nodes.links.get(command.asked) if command.asked is not None else None
        return asked or self._nodes.owner_of(command.partition)

    def _tried(self, command: Command) -> None:
        """It has ended, so what it has held back goes on: all of it, or one after the other while
        each may have to be asked of another server."""
        place = command.partition, command.channel
        failed: list[tuple[Command, BrokerDown]] = []
        with self._lock:
            held = self._held.get(place)
            if held is None or held.tried is not command:
                return
            held.tried = None
            if command.asked is not None or self._draining[command.partition]:
                held.due = 0.0
            else:
                del self._held[place]
                for each in held.commands:
                    self._held_bytes -= len(each.data)
                    try:
                        self._nodes.owner_of(each.partition).submit(each)
                    except BrokerDown as down:
                        failed.append((each, down))
        for each, error in failed:
            each.fail(error)
        self._wake()
