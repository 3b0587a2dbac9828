"""Sharing a listener fairly: who has more connections than others steps aside for a moment.

epoll(7) wakes every process that waits on a shared listener, and the quickest takes the connection;
without a correction, long connections pile up on few processes. Each process that accepts says so
in its row of the scoreboard, and reads the rows of the others: while it has clearly more
connections than the one with the fewest, it leaves the queue to them. The one with the fewest never
waits, so never do all of them. Who is full, retires, hangs or is dead does not count. And if a
connection still waits after `PATIENCE` (the others are busy), anybody takes it.

A listener that one process serves alone (also each slot's own with reuse_port) costs a look at the
scoreboard every `REFRESH_SECONDS`, and a connection that finds few of its kind costs none.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Any

from gevent.monkey import get_original

from gworker.ipc.scoreboard import Column, Row, Scoreboard

SLACK = 8
"""Connections more than the fewest that are no matter."""

RATIO = 1.02
"""And this part more: at thousands of connections the slack alone would be too strict for who is
quick."""

PAUSE = 0.005
"""Seconds for which a process steps aside, if the queue is not empty before."""

PATIENCE = 0.05
"""Seconds after which it takes a connection that nobody has taken."""

REFRESH_SECONDS = 0.1
"""How often who accepts from the same listener is looked up."""

HANGS_SECONDS = 2.5
"""A process whose beat (two a second) is older is left out of the count."""

ALONE = 64
"""Connections taken per turn of the event loop by who has the listener for itself; one if it is
shared."""

LISTENER, CONNECTIONS, BEAT = Column.LISTENER.value, Column.CONNECTIONS.value, Column.BEAT.value


class Balance:
    """The part that one process takes of one listener. `listener`: its inode, the same in every
    process."""

    def __init__(
        self, board: Scoreboard, row: Row, listener: int, descriptor: int, loop: Any
    ) -> None:
        self._board = board
        self._row = row
        self._listener = listener
        self._peers: list[Row] = []
        """Who accepts from this listener, ourselves among them."""
        self._refresh_at = 0.0
        self._timer: Any = loop.timer(PAUSE, PAUSE)
        self._queue = get_original("select", "poll")()
        self._queue.register(descriptor, select.POLLIN)
        self._aside_since = 0.0
        self._go_on: Callable[[bool], None] | None = None

    def open(self) -> None:
        """Take part: the others count on this process from now on."""
        self._row[LISTENER] = self._listener

    def close(self) -> None:
        """Take no part: full, or retiring."""
        self._row[LISTENER] = 0
        self._timer.stop()

    def allowance(self) -> int:
        """How many connections to take now. 0: others should."""
        now = time.monotonic()
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_SECONDS
            self._look_up(now)
        if len(self._peers) < 2:
            return ALONE
        own = self._row[CONNECTIONS]
        if own <= SLACK:
            return 1
        fewest = min([row[CONNECTIONS] for row in self._peers])
        return 0 if own > fewest * RATIO + SLACK else 1

    def step_aside(self, go_on: Callable[[bool], None]) -> None:
        """Leave the queue to the others for a moment, then call `go_on`: True if they leave it
        lying."""
        self._go_on = go_on
        self._aside_since = time.monotonic()
        self._timer.again(
            self._look_again
        )  # `start` would go on with what was left of the last time

    def _look_again(self) -> None:
        assert self._go_on is not None
        is_patient = time.monotonic() - self._aside_since < PATIENCE
        if not (is_patient and self._queue.poll(0) and not self.allowance()):
            self._timer.stop()
            self._go_on(not is_patient)

    def _look_up(self, now: float) -> None:
        """Find who accepts from this listener."""
        oldest = int((now - HANGS_SECONDS) * 1e9)
        self._peers = [
            row for row in self._board.rows_with(LISTENER, self._listener) if row[BEAT] >= oldest
        ]
