"""Deadlines of peers that owe us something: the rest of a header, of a handshake.

Most peers never get near theirs, so entering and leaving must cost next to nothing: a dict, and one
timer for the process that is armed only while somebody is in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gworker.connection import Connection

GRANULARITY = 0.25
"""Seconds by which a deadline may be late."""


class Deadlines:
    """Who is under a deadline, and until when (seconds of the event loop's clock)."""

    def __init__(self, loop: Any, expired: Callable[[Connection], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._timer = loop.timer(GRANULARITY, GRANULARITY)
        self.due: dict[Connection, float] = {}
        """Until when each peer has time."""

    def set(self, connection: Connection, seconds: float) -> None:
        """Put `connection` under a deadline of `seconds` from now, unless it is under one."""
        if connection in self.due or seconds <= 0:
            return
        if not self.due:
            self._timer.again(self._check)
        self.due[connection] = self._loop.now() + seconds

    def extend(self, connection: Connection, seconds: float) -> None:
        """Begin the deadline of `connection` anew."""
        self.clear(connection)
        self.set(connection, seconds)

    def clear(self, connection: Connection) -> None:
        """Release `connection`."""
        if self.due.pop(connection, None) is not None and not self.due:
            self._timer.stop()

    def _check(self) -> None:
        now = self._loop.now()
        late = [connection for connection, due in self.due.items() if due <= now]
        for connection in late:
            self.clear(connection)
            self._expired(connection)
