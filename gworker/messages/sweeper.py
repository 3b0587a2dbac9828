"""Forgets what is not needed any more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from gworker.messages.background import in_background
from gworker.messages.host import Host

log = logging.getLogger("gworker")

# Seconds between two rounds.
SWEEP_SECONDS: Final = 0.5


class Sweeper:
    """Runs while there is something that will be too old.

    parts: each forgets what is too old, and returns True if it has more.
    """

    def __init__(self, host: Host) -> None:
        self.parts: list[Callable[[], bool]] = []
        self._host = host
        self._is_running = False

    def wake(self) -> None:
        """There is something new."""
        if not self._is_running:
            self._is_running = True
            in_background(self._run)

    def _run(self) -> None:
        has_more = True
        try:
            while has_more and not self._host.has_ended:
                time.sleep(SWEEP_SECONDS)
                has_more = max([sweep() for sweep in self.parts])
        except Exception:  # the next `wake` begins again
            log.exception("what is not needed any more could not be forgotten")
        finally:
            self._is_running = False
