"""`request.stream`: the body as a file, while it is still arriving."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER = 65536


class BodyStream(io.RawIOBase):
    """Reads from `more`, which waits for the next piece of a body; None is the end."""

    def __init__(self, more: Callable[[], bytes | None]) -> None:
        super().__init__()
        self._more = more
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Wait until there is something. Raises TimeoutError, ConnectionError, or ValueError for a
        malformed body."""
        if not self._rest:
            piece = self._more()
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        target = memoryview(buffer).cast("B")
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def body_file(more: Callable[[], bytes | None]) -> io.BufferedReader:
    """A binary file over `more`: read, readline, iteration."""
    return io.BufferedReader(BodyStream(more), BUFFER)
