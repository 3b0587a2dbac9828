"""What is sent on a connection that is not open yet: kept, in order, up to a bound. And who waits
for it to open."""

from __future__ import annotations

import sys
from typing import Any

from gevent.event import Event

ENTRY = 64
"""Bytes that one entry takes besides what it holds: a tuple, and its place in the list."""


class Early:
    """The messages of one attempt.

    size: their bytes. held: bytes of memory that they keep alive. full: its owner was told that it
    is.
    joins: encoded messages may be joined, as the peer sees a stream.
    """

    __slots__ = ("_joins", "_messages", "_over", "full", "held", "size")

    def __init__(self, joins: bool) -> None:
        self._joins = joins
        self._messages: list[tuple[Any, bool]] = []
        self._over: Event | None = None
        self.size = 0
        self.held = 0
        self.full = False

    def add(self, message: Any, raw: bool) -> None:
        """Keep `message`; raw: it is encoded."""
        messages = self._messages
        self.size += len(message)
        if raw and self._joins and messages and messages[-1][1]:
            messages[-1][0].extend(message)
            self.held += len(message)
            return
        self.held += sys.getsizeof(message) + ENTRY if messages else len(message)
        messages.append((bytearray(message) if raw and self._joins else message, raw))

    def take(self) -> list[tuple[Any, bool]]:
        """All that was kept, as (message, raw)."""
        messages, self._messages = self._messages, []
        self.size = self.held = 0
        return messages

    def wait(self, timeout: float | None) -> bool:
        """Block this greenlet until it is over: open or closed. False: `timeout` seconds passed
        first."""
        if self._over is None:
            self._over = Event()
        return self._over.wait(timeout)

    def end(self) -> None:
        """Wake who waits, and keep nothing."""
        self.take()
        if self._over is not None:
            self._over.set()
