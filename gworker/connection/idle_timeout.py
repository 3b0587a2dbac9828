"""Connections that rest: silent ones, HTTP connections whose next request does not come, messages
that do not end.

Nothing is written down while a connection works. All of them are looked at about once a second, a
part of them at a time. So a connection is closed after its limit, and at most an eighth of it or a
second later. Without a limit nothing runs.
"""

from __future__ import annotations

import logging
import time

from gworker.app.limits import Limits
from gworker.connection.deadlines import MOVED_SECONDS
from gworker.connection.open_connections import OpenConnections
from gworker.connection.registry import Isolate, Member, Registered
from gworker.system.event_loop import Loop, Watcher

log = logging.getLogger("gworker")


LONGEST_ROUND = 1.0  # seconds in which each connection is looked at once, at most
SHORTEST_TURN = 0.05  # seconds between two turns, at least
PARTS = 8  # turns of a round, at most

POLICY_VIOLATION = 1008  # the close code for a peer whose message does not end (RFC 6455, 7.4.1)


class IdleTimeout:
    """Closes the connections of one process that rest for too long."""

    def __init__(
        self,
        loop: Loop,
        limits: Limits,
        connections: OpenConnections,
        isolate: Isolate,
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._connections = connections
        self._check = isolate(self._check_connection)
        self._keep_alive = 0.0
        self._timer: Watcher | None = None
        self._parts = 1
        # Ids of those that are still to be looked at in this round: no reference to a connection is
        # kept.
        self._round: list[int] = []
        # By connection id: which message it is in the middle of (None: any), and since when that is
        # known.
        self.messages: dict[int, tuple[int | None, float]] = {}

    def start(self, keeps_alive: bool) -> None:
        """Look from now on, if there is a limit. keeps_alive: there are connections with
        exchanges."""
        limits = self._limits
        if keeps_alive:
            self._keep_alive = limits.keep_alive
        every = (limits.idle_timeout, limits.message_timeout, self._keep_alive)
        shortest = min(filter(None, every), default=0)
        if not shortest:
            return
        self.stop()
        period = min(LONGEST_ROUND, shortest / 8)
        self._parts = max(1, min(PARTS, int(period / SHORTEST_TURN)))
        turn = max(SHORTEST_TURN, period / self._parts)
        self._timer = self._loop.timer(turn, turn)
        self._timer.start(self._poll)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def forget(self, connection: Registered) -> None:
        self.messages.pop(connection.id, None)

    def save(self, connection: Member) -> tuple[float | None, float | None] | None:
        """For how many seconds it has been silent, and in the middle of a message; None: not."""
        now, mark, message = time.monotonic(), connection.idle_mark, None
        silent = now - mark[1] if mark and mark[0] == connection.bytes_read else None
        if (known := self.messages.get(connection.id)) is not None:
            message = now - known[1]
        return None if silent is None and message is None else (silent, message)

    def restore(self, connection: Member, saved: tuple[float | None, float | None]) -> None:
        now, (silent, message) = time.monotonic(), saved
        if silent is not None:
            connection.idle_mark = (connection.bytes_read, now - silent)
        if message is not None and (limit := self._limits.message_timeout):
            self.messages[connection.id] = (None, now - min(message, limit - MOVED_SECONDS))

    def _poll(self) -> None:
        now, connections = time.monotonic(), self._connections
        if not self._round:
            self._round = list(connections)
        size = -(-len(connections) // self._parts) or 1
        part, self._round = self._round[:size], self._round[size:]
        for number in part:
            connection = connections.get(number)
            if connection is not None and connection.status == "established":
                self._check(connection, now)

    def _check_connection(self, connection: Member, now: float) -> None:
        seconds = self._limits.message_timeout
        if seconds and self._is_endless(connection, now, seconds):
            log.info("%r: its message was not whole after %g s", connection, seconds)
            connection.close(code=POLICY_VIOLATION, reason="message not finished in time")
            return
        limit = self._limit(connection)
        if not limit:
            return
        mark, is_idle = connection.idle_mark, connection.is_idle and not connection.is_held
        if mark is None or mark[0] != connection.bytes_read or not is_idle:
            connection.idle_mark = (connection.bytes_read, now)
        elif now - mark[1] >= limit:
            connection.close()

    def _limit(self, connection: Member) -> float:
        # How long it may be silent. 0: for ever.
        silence = self._limits.idle_timeout
        if self._keep_alive and connection.is_resting:
            return min(filter(None, (self._keep_alive, silence)))
        return silence

    def _is_endless(self, connection: Member, now: float, seconds: float) -> bool:
        # True if the message that is arriving takes too long. Only while we are ready to read it.
        which = connection.unfinished
        before, since = self.messages.pop(connection.id, (which, now))
        if which is None:
            return False
        if before not in (which, None):  # that one is whole, and another one has begun
            since = now
        self.messages[connection.id] = (which, since)
        return now - since >= seconds
