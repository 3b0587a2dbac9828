"""How many requests a process may serve (`--max-requests`): it sees to it itself that it has a successor in time.

The arbiter looks at the scoreboard once a second, and a busy process serves thousands in a second. So a process asks
for its successor when it has nearly used up what it is allowed. If that is not ready when it has served a little more,
it takes nothing new for a moment: what comes waits in the kernel, and the successor finds it there, or gets it with
the connection. Nobody waits for long: the process serves on if the successor does not become ready.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from gworker.connection import Connection
from gworker.entrance import Entrance
from gworker.service import Service
from gworker.stream import BY_DEPARTURE

ASK, HOLD = 0.95, 1.05
"""The parts of what it is allowed after which it asks, and takes nothing new."""

HOLD_SECONDS = 5.0
"""How long it takes nothing new at most: the code on the disk may be broken."""


class Allowance:
    """What one process may serve. requests: 0: any number. ask: tells the arbiter that it needs a successor."""

    def __init__(self, service: Service, entrance: Entrance, requests: int, ask: Callable[[], object]) -> None:
        self._service = service
        self._entrance = entrance
        self._requests = requests
        self._ask = ask
        self._timer: Any = service.loop.timer(HOLD_SECONDS)
        if requests:
            service.expect(requests * ASK, self._nearly_used_up)

    def _nearly_used_up(self) -> None:
        self._service.expect(self._requests * HOLD, self._hold)
        self._ask()

    def _hold(self) -> None:
        """Take nothing new. Connection handlers read in the middle of their work, and go on."""
        self._service.expect(inf, self._hold)
        self._timer.start(self._release)
        self._entrance.pause()
        for each in self._service.connections.values():
            if isinstance(each, Connection):
                each._hold(BY_DEPARTURE)

    def _release(self) -> None:
        """There is no successor: serve on."""
        self._timer.stop()
        self._entrance.resume()
        self._let_read()

    def end(self) -> None:
        """The process retires: what has to end here may go on for that. What moves is held until it has moved."""
        self._service.expect(inf, self._hold)
        if self._timer.active:  # it holds back
            self._timer.stop()
            self._let_read()

    def _let_read(self) -> None:
        giver = self._service.giver
        for each in self._service.connections.values():
            if isinstance(each, Connection) and (giver is None or giver.why_stays(each)):
                each._release(BY_DEPARTURE)

    def let_go(self) -> None:
        """In a process that user code has forked: it serves nobody."""
        self._timer.stop()
