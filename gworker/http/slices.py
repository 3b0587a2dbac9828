"""Long work on one body is done in slices of 64 KiB, between which other connections have their
turn.

The worker process sets how a greenlet yields (`give_way`). By default nothing happens.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

SLICE = 65536


def _go_on() -> None:
    pass


# Called between two slices.
give_way: Callable[[], None] = _go_on


class Slices:
    """Counts the bytes of several pieces of work: others have a turn after each 64 KiB of all."""

    def __init__(self) -> None:
        self._done = 0

    def count(self, size: int) -> None:
        self._done += size
        if self._done >= SLICE:
            self._done = 0
            give_way()

    def of(self, data: bytes) -> Iterator[bytes]:
        """`data` in slices, none of which ends within a percent-encoded byte."""
        start, end = 0, len(data)
        while end - start > SLICE:
            stop = start + SLICE
            cut = data.find(b"%", stop - 2, stop)
            stop = cut if cut >= 0 else stop
            yield data[start:stop]
            self.count(stop - start)
            start = stop
        yield data[start:]
        self.count(end - start)

    def decoded(self, data: bytes, codec: str, errors: str = "strict") -> str:
        """`data` as str. UnicodeDecodeError, a ValueError, for what `codec` does not know."""
        if len(data) <= SLICE:
            self.count(len(data))
            return data.decode(codec, errors)
        decoder = codecs.getincrementaldecoder(codec)(errors)
        parts = [decoder.decode(part) for part in self.of(data)]
        return "".join([*parts, decoder.decode(b"", True)])

    def unquoted(self, text: str) -> str:
        """`text`, percent-decoded as UTF-8; bytes that are not UTF-8 become U+FFFD."""
        if "%" not in text:
            self.count(len(text))
            return text
        return self.decoded(
            b"".join(map(unquote_to_bytes, self.of(text.encode()))), "utf-8", "replace"
        )
