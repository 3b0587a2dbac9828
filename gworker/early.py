"""What is sent on a connection that is not open yet: kept, in order, up to a bound. And who waits for it to open."""

from __future__ import annotations

from typing import Any

from gevent.event import Event


class Early:
    """The messages of one attempt. `size`: their bytes; `full`: its owner was told that it is."""

    __slots__ = ("_messages", "_over", "full", "size")

    def __init__(self) -> None:
        self._messages: list[tuple[Any, bool]] = []
        self._over: Event | None = None
        self.size = 0
        self.full = False

    def add(self, message: Any, raw: bool) -> None:
        """Keep `message`; raw: it is encoded."""
        self._messages.append((message, raw))
        self.size += len(message)

    def take(self) -> list[tuple[Any, bool]]:
        """All that was kept, as (message, raw)."""
        messages, self._messages = self._messages, []
        self.size = 0
        return messages

    def wait(self, timeout: float | None) -> bool:
        """Block this greenlet until it is over: open or closed. False: `timeout` seconds passed first."""
        if self._over is None:
            self._over = Event()
        return self._over.wait(timeout)

    def end(self) -> None:
        """Wake who waits, and keep nothing."""
        self.take()
        if self._over is not None:
            self._over.set()
