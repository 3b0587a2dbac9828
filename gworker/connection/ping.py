"""Pings: each WebSocket, accepted or dialled, is asked every `ping_interval` whether its peer is
still there.

Nothing is kept for a connection between two pings. One timer serves the process: its polls divide
the connections among them by their ids. Whatever comes within `ping_timeout` is an answer, not only
a Pong.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable

from gworker.app.limits import Limits
from gworker.connection.registry import Isolate, Member
from gworker.system.event_loop import Loop

log = logging.getLogger("gworker")


POLLS = 16  # polls per interval, at least, unless they came closer than SHORTEST_PERIOD seconds
SHORTEST_PERIOD = 0.05


# The connection and its attempt; bytes read from it before; bytes written, or -1: nothing was
# queued.
Asked = tuple[Member, object, int, int]


class PingTimer:
    """Asks the peers of one process."""

    def __init__(
        self,
        loop: Loop,
        limits: Limits,
        connections: Callable[[], Iterable[Member]],
        isolate: Isolate,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = connections
        self._ask, self._judge = isolate(self._ask_peer), isolate(self._judge_peer)
        self._clock = clock
        self._timeout = limits.ping_timeout
        self._interval = interval = limits.ping_interval
        period = min(interval / POLLS, self._timeout / 4 or math.inf)
        # Polls per interval.
        self.polls = max(1, math.floor(interval / max(SHORTEST_PERIOD, period)))
        self._timer = loop.timer(interval / self.polls, interval / self.polls)
        self._turn = 0
        self._asked: deque[tuple[float, list[Asked]]] = deque()

    def start(self) -> None:
        if self._interval:
            self._timer.start(self.poll)

    def stop(self) -> None:
        self._timer.stop()

    def poll(self) -> None:
        """Ask those whose turn it is, and end those that have not answered in time."""
        now = self._clock()
        self._turn = (self._turn + 1) % self.polls
        asked: list[Asked] = []
        for connection in self._connections():
            if connection.id % self.polls == self._turn:
                self._ask(connection, asked)
        if asked and self._timeout:
            self._asked.append((now + self._timeout, asked))
        while self._asked and self._asked[0][0] <= now:
            for asked_before in self._asked.popleft()[1]:
                self._judge(*asked_before)

    def _judge_peer(self, connection: Member, io: object, read: int, written: int) -> None:
        if connection.io is io and connection.is_silent(read, written):
            log.info("%r: no answer to a ping within %g s", connection, self._timeout)
            connection.expire()

    @staticmethod
    def _ask_peer(connection: Member, asked: list[Asked]) -> None:
        queued = connection.send_queue > 0
        if connection.probe():
            written = connection.bytes_written if queued else -1
            asked.append((connection, connection.io, connection.bytes_read, written))
