"""What all connections of one worker process share, so that each of them carries one reference to it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gworker.deadlines import Deadlines
from gworker.linger import Lingerer
from gworker.pool import GreenletPool
from gworker.scoreboard import Column, Row
from gworker.worker import Worker

if TYPE_CHECKING:
    from gworker.accesslog import AccessLog

REQUESTS = Column.REQUESTS.value
BYTES_READ = Column.BYTES_READ.value
BYTES_WRITTEN = Column.BYTES_WRITTEN.value

CLOSE_TIMEOUT = 5.0
"""Seconds that a closing connection waits for its peer: for its goodbye, or for it to take more of what is queued."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The effective limits of one Worker. Seconds and bytes; 0: no limit; None: the default of `Connection`."""

    max_connections: int = 0
    idle_timeout: float = 0
    header_timeout: float = 10
    handshake_timeout: float = 10
    ping_interval: float = 0
    ping_timeout: float = 20
    max_package_size: int | None = None
    max_send_buffer_size: int | None = None


class Service:
    """One Worker in one process: its declaration, limits, counters and helpers."""

    def __init__(self, worker: Worker, limits: Limits, row: Row, loop: Any, first_id: int = 1) -> None:
        self.worker = worker
        self.limits = limits
        self.row = row
        self.requests = 0
        self.bytes_read = 0
        self.bytes_written = 0
        self._flusher = loop.prepare()
        self._flusher.start(self._write_counters)
        self.loop = loop
        self.pool = GreenletPool()
        self.lingerer = Lingerer(loop)
        self.deadlines = Deadlines(loop, lambda connection: connection.deadline_passed())
        self.closing = Deadlines(loop, lambda connection: connection.cut())
        self.connections: dict[int, Any] = {}
        self.expected = 0
        """Connections that a predecessor is about to hand over: room that newcomers may not take."""
        self.giver: Any = None
        """Who hands our connections over, once this process retires and has a successor (`handover.Giver`)."""
        self.takers: set[Any] = set()
        """Those over which connections may still arrive (`takeover.Taker`)."""
        self._ids: Iterator[int] = itertools.count(first_id)
        self.retiring = False
        self.access: AccessLog | None = None
        """None: there is no access log."""
        self.on_closed: list[Callable[[], None]] = []
        """Called after a connection has closed: acceptors that wait for a free descriptor."""

    def next_id(self) -> int:
        """A number that no open connection of this process has."""
        while (number := next(self._ids)) in self.connections:
            continue
        return number

    def _write_counters(self) -> None:
        """Copy what every message counts into the scoreboard, each time before the event loop sleeps.

        Words of shared memory cost three times as much to add to as attributes, and a turn of a busy
        loop serves dozens of messages.
        """
        row = self.row
        row[REQUESTS] = self.requests
        row[BYTES_READ] = self.bytes_read
        row[BYTES_WRITTEN] = self.bytes_written
