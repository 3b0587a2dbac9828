"""Pings: each WebSocket, accepted or dialled, is asked every `ping_interval` whether its peer is
still there.

Nothing is kept for a connection between two pings, and one timer serves the process: its looks
divide the connections among them by their ids. Whatever comes within `ping_timeout` is an answer,
not only a Pong.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from gworker.connection.connection import Connection

if TYPE_CHECKING:
    from gworker.connection.context import ServerContext

log = logging.getLogger("gworker")

LOOKS = 16
"""At least so many per interval, unless they came closer than this many seconds:"""
SHORTEST = 0.05

Asked = tuple[Connection, int, int, int]
"""Who was asked, and in which attempt, if it was dialled;
bytes read from it until then; bytes written to it, or -1: nothing was queued."""


class Pings:
    """Asks the peers of one process. `look` is to be called every `period` seconds."""

    def __init__(self, service: ServerContext, clock: Callable[[], float] = time.monotonic) -> None:
        limits = service.limits
        self._service = service
        self._clock = clock
        self._timeout = limits.ping_timeout
        period = min(limits.ping_interval / LOOKS, self._timeout / 4 or math.inf)
        self._looks = max(1, math.floor(limits.ping_interval / max(SHORTEST, period)))
        self.period = limits.ping_interval / self._looks
        self._turn = 0
        self._asked: deque[tuple[float, list[Asked]]] = deque()

    def look(self) -> None:
        """Ask those whose turn it is, and cut those who have not answered in time."""
        now = self._clock()
        self._turn = (self._turn + 1) % self._looks
        asked: list[Asked] = []
        ask, judge = (
            self._service.isolate_errors(self._ask),
            self._service.isolate_errors(self._judge),
        )
        for connection in [*self._service.connections.values(), *self._service.dialled.values()]:
            if connection.id % self._looks == self._turn and isinstance(connection, Connection):
                ask(connection, asked)
        if asked and self._timeout:
            self._asked.append((now + self._timeout, asked))
        while self._asked and self._asked[0][0] <= now:
            for connection, *what in self._asked.popleft()[1]:
                judge(connection, *what)

    def _judge(self, connection: Connection, attempt: int, read: int, written: int) -> None:
        if connection.attempt == attempt and connection.is_silent(read, written):
            log.info("%r: no answer to a ping within %g s", connection, self._timeout)
            connection.give_up()

    @staticmethod
    def _ask(connection: Connection, asked: list[Asked]) -> None:
        queued = connection.send_queue > 0
        if connection.ping():
            written = connection.bytes_written if queued else -1
            asked.append((connection, connection.attempt, connection.bytes_read, written))
