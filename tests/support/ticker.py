"""A timer of an event loop that ticks when a test says so."""

from __future__ import annotations

from collections.abc import Callable


class Ticker:
    callback: Callable[[], None] | None = None

    def again(self, callback: Callable[[], None]) -> None:
        self.callback = callback

    start = again

    def stop(self) -> None:
        self.callback = None

    close = stop
