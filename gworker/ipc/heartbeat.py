"""The beat of a worker process: a sign that its event loop turns, and how late it is.

`Beat` writes it, in the process; `lag` reads it, in the arbiter. The times of beats are fixed
beforehand. So a loop that is blocked for less than a beat is found as well: sooner or later a beat
is due while it is blocked.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from gworker.ipc.scoreboard import Column, Row

SECONDS = 0.5  # between two beats of a process that is well

WINDOW = 5.0  # seconds for which it is remembered how late beats were


class Beat:
    """Writes the beat into the row of this process. on_beat: called each time."""

    def __init__(
        self,
        loop: Any,  # gevent's, of which the arbiter must not import the types
        row: Row,
        on_beat: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._row = row
        self._on_beat = on_beat
        self._clock = clock
        self._timer: Any = None
        self._due = 0.0
        # When a beat came, and by how many seconds it was late: only those that were later than all
        # that followed.
        self._late: deque[tuple[float, float]] = deque()

    def start(self) -> None:
        self._late.clear()
        now = self._due = self._clock()
        self._write(now)
        self._arm(now)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _arm(self, now: float) -> None:
        # Wait for the next time that is due. Those that have passed are not made up for.
        self.stop()
        self._due += SECONDS * (1 + (now - self._due) // SECONDS)
        self._loop.update_now()  # else it counts from when this turn began
        self._timer = self._loop.timer(self._due - now)
        self._timer.start(self._beat)

    def _beat(self) -> None:
        now = self._clock()
        self._write(now)
        self._arm(now)
        self._on_beat()

    def _write(self, now: float) -> None:
        late, lag = self._late, max(0.0, now - self._due)
        while late and late[-1][1] <= lag:
            late.pop()
        late.append((now, lag))
        while late[0][0] <= now - WINDOW:
            late.popleft()
        self._row[Column.LAG_US] = int(late[0][1] * 1e6)
        self._row[Column.BEAT] = int(now * 1e9)


def lag(row: Row, now: float) -> float:
    """Seconds by which the event loop behind `row` was late at most in the last `WINDOW`, or is
    late now.

    A loop that has missed a whole beat is held now: since its last one, as far as is known.
    """
    age = now - row[Column.BEAT] / 1e9
    is_now = age if age >= 2 * SECONDS else age - SECONDS
    return float(max(row[Column.LAG_US] / 1e6, is_now))
