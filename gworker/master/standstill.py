"""Standstills of the arbiter: SIGSTOP, a frozen container, a suspended machine.

Processes that missed a deadline may have stood still as well: they get that much more time.
"""

from __future__ import annotations

import logging

log = logging.getLogger("gworker")

# A turn that is later than that is a standstill; the second is for the log.
SECONDS, NOTABLE_SECONDS = 0.5, 3.0


class Standstill:
    """Finds standstills by how late the arbiter looks at the clock. `now`: monotonic."""

    def __init__(self, now: float) -> None:
        self._last_look = now
        self._is_excused = False

    def look(self, now: float, due: float = 0.0) -> float:
        """The seconds of a standstill, or 0. due: until when the arbiter had nothing to do."""
        late = now - max(due, self._last_look)
        self._last_look = now
        if late <= SECONDS or self._is_excused:
            return 0.0
        self._is_excused = True
        if late > NOTABLE_SECONDS:
            log.warning(
                "the arbiter stood still for %.1f s; its processes get that much more time", late
            )
        return late

    def rearm(self) -> None:
        """Find the next one, too. Once a tick: an overloaded machine would have no ticks."""
        self._is_excused = False
