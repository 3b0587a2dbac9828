"""What one channel has stored of its messages."""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from collections.abc import Iterable

from gworker.broker.interface import PAGE_BYTES, Reply


class History:
    """What a channel has stored, and its position, which outlives that."""

    __slots__ = ("_entries", "_lost", "_mode", "_values", "epoch", "offset")

    def __init__(self) -> None:
        self.epoch = new_epoch()
        self.offset = 0
        self._mode = b""
        self._lost = 0  # the greatest offset that is needed and no longer there
        # Offset and body, the oldest first: of recoverable messages, and of values by their key.
        self._entries: deque[tuple[int, bytes]] = deque()
        self._values: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()

    def append(self, mode: bytes, value_key: bytes, body: bytes, size: int) -> int:
        """Returns the offset of the new entry."""
        if mode != self._mode:
            self.drop_entries()
            self._mode = mode
        self.offset += 1
        entry = self.offset, body
        if mode == b"recoverable":
            self._entries.append(entry)
            while len(self._entries) > size:
                self._lost = self._entries.popleft()[0]
        else:
            self._values[value_key] = entry
            self._values.move_to_end(value_key)
            while len(self._values) > size:
                self._lost = self._values.popitem(last=False)[1][0]
        return self.offset

    def drop_entries(self) -> None:
        self._entries.clear()
        self._values.clear()
        self._lost = self.offset

    def between(
        self, mode: bytes, asked: int, limit: int, backwards: bool
    ) -> tuple[list[Reply], bool]:
        """Entries after `asked`, or before it, of PAGE_BYTES; and whether none is missing between
        `asked` and the last of them, or the end if these are not cut off."""
        if mode != self._mode:
            return [], (asked <= 1 if backwards else asked >= self.offset)
        found: Iterable[tuple[int, bytes]]
        stored = self._entries if mode == b"recoverable" else self._values.values()
        if backwards:
            found = (entry for entry in reversed(stored) if entry[0] < asked)
            is_whole = not self._lost or asked <= 1
        else:
            found = (entry for entry in stored if entry[0] > asked)
            is_whole = self._lost <= asked
        entries: list[Reply] = []
        size = 0
        for offset, body in found:
            if size >= PAGE_BYTES:
                break
            if limit and len(entries) == limit:
                is_whole = False
                break
            entries.append([offset, body])
            size += len(body)
        return entries, is_whole


def new_epoch() -> bytes:
    return secrets.token_hex(4).encode()
