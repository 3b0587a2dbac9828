"""What patterns of channels mean, as the programs of a cluster have declared it."""

from __future__ import annotations

from gworker.broker.interface import Reply


class Declarations:
    def __init__(self) -> None:
        self._declared: dict[bytes, tuple[bytes, int]] = {}  # text and generation by pattern

    def declare(self, channel: bytes, pattern: bytes, text: bytes, generation: bytes) -> bytes:
        """Declare what `pattern` means. Returns b"", or the text that stands there if that is
        another one, of this generation or a later one."""
        number = int(generation)
        known = self._declared.get(pattern)
        if known is not None:
            if known[0] != text and known[1] >= number:
                return known[0]
            number = max(number, known[1])
        self._declared[pattern] = text, number
        return b""

    def declarations(self, channel: bytes) -> list[Reply]:
        """Pattern and text of each, in the order in which they were declared first."""
        return [[pattern, text] for pattern, (text, _) in self._declared.items()]
