"""Sharing a listener fairly: a process with more connections than the others pauses for a moment.

epoll(7) wakes every process that waits on a shared listener, and the quickest takes the connection;
without a correction, long connections pile up on few processes. Each process that accepts says so
in its row of the scoreboard, and reads the rows of the others: while it has clearly more
connections than the one with the fewest, it leaves the queue to them. The one with the fewest never
waits, so there is always one that accepts. A process that is full, retires, hangs or is dead does
not count. And if a connection still waits after `PATIENCE`, since the others are busy, any process
takes it.

A listener that one process serves alone (also each slot's own with reuse_port) costs a look at the
scoreboard every `REFRESH_SECONDS`. A process with few connections does not compare itself.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from functools import partial

from gevent.monkey import get_original

from gworker.ipc.scoreboard import Column, Row, Scoreboard
from gworker.system.event_loop import Loop

SLACK = 8  # connections more than the fewest that do not matter

RATIO = 1.02  # and this part more: at thousands of connections the slack alone would be too strict

PAUSE = 0.005  # seconds for which a process pauses, unless the queue is empty before

PATIENCE = 0.05  # seconds after which it takes a connection that still waits

REFRESH_SECONDS = 0.1  # how often the processes that accept from the same listener are looked up

HANGS_SECONDS = 2.5  # a process whose beat (two a second) is older is left out of the count

# Connections accepted per turn of the event loop by a process that has the listener for itself; one
# if it is shared.
ALONE = 64

LISTENER, CONNECTIONS, BEAT = Column.LISTENER.value, Column.CONNECTIONS.value, Column.BEAT.value


class AcceptBalance:
    """One process among those that accept from one listener. `listener`: its inode, the same in
    every process."""

    def __init__(
        self, board: Scoreboard, row: Row, listener: int, descriptor: int, loop: Loop
    ) -> None:
        self._board = board
        self._row = row
        self._listener = listener
        # The rows of the processes that accept from this listener, ours among them.
        self._peers: list[Row] = []
        self._refresh_at = 0.0
        self._timer = loop.timer(PAUSE, PAUSE)
        self._queue = get_original("select", "poll")()
        self._queue.register(descriptor, select.POLLIN)

    def open(self) -> None:
        """Take part: the others rely on this process from now on."""
        self._row[LISTENER] = self._listener

    def close(self) -> None:
        """Take no part: full, or retiring."""
        self._row[LISTENER] = 0
        self._timer.stop()

    def allowance(self) -> int:
        """How many connections to accept now. 0: others should."""
        now = time.monotonic()
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_SECONDS
            oldest = int((now - HANGS_SECONDS) * 1e9)
            found = self._board.rows_with(LISTENER, self._listener)
            self._peers = [row for row in found if row[BEAT] >= oldest]
        if len(self._peers) < 2:
            return ALONE
        own = self._row[CONNECTIONS]
        if own <= SLACK:
            return 1
        fewest = min([row[CONNECTIONS] for row in self._peers])
        return 0 if own > fewest * RATIO + SLACK else 1

    def pause(self, resume: Callable[[bool], None]) -> None:
        """Leave the queue to the others for a moment, then call `resume`: True if a connection has
        waited for `PATIENCE`."""
        poll = partial(self._poll, resume, time.monotonic())
        self._timer.again(poll)  # `start` would go on with what was left of the last time

    def _poll(self, resume: Callable[[bool], None], since: float) -> None:
        is_patient = time.monotonic() - since < PATIENCE
        if not (is_patient and self._queue.poll(0) and not self.allowance()):
            self._timer.stop()
            resume(not is_patient)
