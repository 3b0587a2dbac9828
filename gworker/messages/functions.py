"""The functions that are called with the messages of a group, one message at a time."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from gworker.system import fork_guard

log = logging.getLogger("gworker")

# Messages, and their bytes, that may wait for a function that is slow.
MOST_WAITING: Final = 10_000
MOST_WAITING_BYTES: Final = 16 << 20

Function = Callable[[Any], object]
Spawn = Callable[..., object]
Report = Callable[..., None]


class Functions:
    """Those of one group in one process. All of them get a message before the next one.

    spawn: runs a function with arguments in a greenlet of its own. It exists only while messages
    wait. report: counts and logs the exception that is being handled.
    """

    __slots__ = ("_group", "_is_running", "_report", "_size", "_spawn", "_waiting", "all")

    def __init__(self, group: str, spawn: Spawn, report: Report) -> None:
        self._group = group
        self._spawn = spawn
        self._report = report
        self._waiting: deque[tuple[Any, int]] = deque()
        self._size = 0  # bytes of these
        self._is_running = False
        self.all: list[Function] = []

    def add(self, message: Any, size: int) -> bool:
        """Call them with it, in its turn. size: its bytes. False: too many wait."""
        if len(self._waiting) >= MOST_WAITING or self._size + size > MOST_WAITING_BYTES:
            return False
        self._waiting.append((message, size))
        self._size += size
        if not self._is_running:
            self._is_running = True
            self._spawn(self._work)
        return True

    def clear(self) -> None:
        """None of them is called any more."""
        self.all.clear()
        self._waiting.clear()
        self._size = 0

    def _work(self) -> None:
        try:
            while self._waiting:
                message, size = self._waiting.popleft()
                self._size -= size
                for function in list(self.all):
                    try:
                        function(message)
                    except BaseException:  # gevent.Timeout, say
                        self._report("%r of the group %r: exception", function, self._group)
                    fork_guard.end()
        finally:
            self._is_running = False
