"""Connections that rest: silent ones, HTTP connections whose next request does not come, messages
that do not end.

Nobody pays for being able to rest: what a connection did is not written down as it does it, but
seen by looking at all of them, about once a second and a part of them at a time. So what is closed
is closed after its limit, and at most an eighth of it or a second later. Without a limit nobody
looks.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gworker.connection.context import ServerContext

log = logging.getLogger("gworker")

LONGEST_ROUND = 1.0
SHORTEST_TURN = 0.05
PARTS = 8
"""Seconds in which everybody is looked at once, at most; between two turns, at least; turns of a
round, at most."""

MOVED = 0.5
"""Seconds that a peer still has at least after it was moved to another process."""

POLICY = 1008
"""The close code for a peer whose message does not end (RFC 6455, 7.4.1)."""


class IdleCheck:
    """Closes the connections of one process that rest for too long."""

    def __init__(self, service: ServerContext) -> None:
        self._service = service
        limits = service.limits
        self._silence, self._message = limits.idle_timeout, limits.message_timeout
        self._keep_alive = 0.0
        self._timer: Any = None
        self._parts = 1
        self._rest: list[int] = []
        """Ids of those that are still to be looked at in this round: nothing here keeps a
        connection."""
        self.begun: dict[int, tuple[int | None, float]] = {}
        """By connection id: which message it is in the middle of (None: any), and since when that
        is known."""

    def start(self, keeps_alive: bool) -> None:
        """Look from now on, if there is something to look for. keeps_alive: there are connections
        with exchanges."""
        if keeps_alive:
            self._keep_alive = self._service.limits.keep_alive
        shortest = min(filter(None, (self._silence, self._message, self._keep_alive)), default=0)
        if not shortest:
            return
        self.stop()
        period = min(LONGEST_ROUND, shortest / 8)
        self._parts = max(1, min(PARTS, int(period / SHORTEST_TURN)))
        turn = max(SHORTEST_TURN, period / self._parts)
        self._timer = self._service.loop.timer(turn, turn)
        self._timer.start(self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def since(self, number: int) -> float | None:
        """For how many seconds the connection of this id has been in the middle of a message, as
        far as is known."""
        known = self.begun.get(number)
        return None if known is None else time.monotonic() - known[1]

    def resume(self, number: int, seconds: float | None) -> None:
        """A connection that was moved here has been in the middle of a message for so long."""
        if seconds is not None and self._message:
            self.begun[number] = (None, time.monotonic() - min(seconds, self._message - MOVED))

    def _look(self) -> None:
        now, connections = time.monotonic(), self._service.connections
        if not self._rest:
            self._rest = list(connections)
            if self.begun:
                self._forget_gone()
        size = -(-len(connections) // self._parts) or 1
        part, self._rest = self._rest[:size], self._rest[size:]
        judge = self._service.isolate_errors(self._judge)
        for number in part:
            connection = connections.get(number)
            if connection is not None and connection.status == "established":
                judge(connection, now)

    def _forget_gone(self) -> None:
        connections = self._service.connections
        self.begun = {number: mark for number, mark in self.begun.items() if number in connections}

    def _judge(self, connection: Any, now: float) -> None:
        if self._message and self._is_endless(connection, now):
            log.info("%r: its message was not whole after %g s", connection, self._message)
            connection.close(code=POLICY, reason="message not finished in time")
            return
        mark = connection.idle_mark
        limit = self._limit(connection)
        if not limit:
            return
        is_idle = connection.is_idle and not connection.is_held
        if mark is None or mark[0] != connection.bytes_read or not is_idle:
            connection.idle_mark = (connection.bytes_read, now)
        elif now - mark[1] >= limit:
            connection.close()

    def _limit(self, connection: Any) -> float:
        """How long it may be silent. 0: for ever."""
        if self._keep_alive and connection.is_resting:
            return min(filter(None, (self._keep_alive, self._silence)))
        return self._silence

    def _is_endless(self, connection: Any, now: float) -> bool:
        """True if the message that is arriving has been for too long. Only while we are ready to
        read it."""
        which = connection.unfinished
        if which is None:
            self.begun.pop(connection.id, None)
            return False
        known = self.begun.get(connection.id)
        if known is None or known[0] not in (which, None):
            self.begun[connection.id] = (which, now)
            return False
        self.begun[connection.id] = (which, known[1])
        return now - known[1] >= self._message
