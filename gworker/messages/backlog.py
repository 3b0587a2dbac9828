"""The last messages of a channel, in the process to which its members move."""

from __future__ import annotations

import itertools
import time
from collections import deque
from typing import Any, Final

# Seconds for which a successor keeps a message, and bytes of the messages of a channel: the oldest
# go. A member that comes too late for one of these is served from the history, or told of a gap.
KEEP_SECONDS: Final = 15.0
KEEP_BYTES: Final = 16 << 20

# (id of the marker, messages since); None: there was no marker.
Position = tuple[str, int] | None


class Backlog:
    """The last messages of one channel, with the places of markers among them.

    count: how many have come; the place of the last one. users: for whom it is kept. hidden: of a
    channel of all connections, those to which it is still the predecessor that sends.
    """

    __slots__ = (
        "_marks", "_messages", "_size", "_waiting", "_waiting_for", "count", "hidden", "users",
    )  # fmt: skip

    def __init__(self) -> None:
        self.count = 0
        self.users: set[object] = set()
        self.hidden: set[Any] = set()
        self._messages: deque[tuple[float, bytes]] = deque()
        self._size = 0  # bytes of these
        self._marks: dict[str, int] = {}
        self._waiting: list[tuple[int, list[Any]]] = []  # behind which place their turn begins
        self._waiting_for: dict[str, list[Any]] = {}  # behind which marker

    def add(self, payload: bytes) -> list[Any]:
        """One has come. Returns the connections whose turn begins with it."""
        due = self._take_waiting(self.count) if self._waiting else []
        self.count += 1
        now = time.monotonic()
        messages = self._messages
        messages.append((now, payload))
        self._size += len(payload)
        while messages and (messages[0][0] < now - KEEP_SECONDS or self._size > KEEP_BYTES):
            self._size -= len(messages.popleft()[1])
        return due

    @property
    def is_needed(self) -> bool:
        """False: no connection comes any more, and none waits."""
        return bool(self.users or self._waiting or self._waiting_for)

    def mark(self, marker: str) -> list[Any]:
        """The last one that has come is this marker. Returns the connections whose turn begins
        behind it."""
        self._marks[marker] = self.count
        return self._waiting_for.pop(marker, [])

    def place(self, position: Position) -> int | None:
        """Where that is; None: that is not known, or not all behind it is kept."""
        mark = None if position is None else self._marks.get(position[0])
        if position is None or mark is None:
            return None
        place = mark + position[1]
        return None if self.count - place > len(self._messages) else place

    def behind(self, place: int) -> list[bytes]:
        start = len(self._messages) - (self.count - place)
        return [payload for _, payload in itertools.islice(self._messages, start, None)]

    def wait(self, place: int, connections: list[Any]) -> None:
        """They have had what comes until `place`."""
        self._waiting.append((place, connections))

    def wait_for(self, marker: str, connections: list[Any]) -> None:
        """It is not known what they have had: nothing of what comes before `marker` is theirs."""
        self._waiting_for[marker] = connections

    @property
    def missing_markers(self) -> list[str]:
        """Those that connections wait for."""
        return list(self._waiting_for)

    @property
    def waiting(self) -> list[Any]:
        """The connections whose turn has not begun."""
        lists = *(each for _, each in self._waiting), *self._waiting_for.values()
        return list(itertools.chain.from_iterable(lists))

    def interrupt(self) -> list[Any]:
        """Messages may be missing: no place is known any more. Returns those that waited for
        one."""
        self._messages.clear()
        self._size = 0
        self._marks.clear()
        return self._take_waiting(None)

    def _take_waiting(self, place: int | None) -> list[Any]:
        due = [each for each in self._waiting if place is None or each[0] <= place]
        self._waiting = [each for each in self._waiting if each not in due]
        return [one for _, connections in due for one in connections]
