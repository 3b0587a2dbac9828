"""text: one line, one message. Lines end with LF; a CR before it is dropped. UTF-8 only."""

from __future__ import annotations

from gworker.core import register_framing
from gworker.protocols.base import EOF, NEED_DATA
from gworker.protocols.buffered import BufferedProtocol, to_bytes

_SHORT = 4096


class TextProtocol(BufferedProtocol):
    """Messages are `str` without the line ending; sends `str` or bytes without one, and
    dict and list as JSON.

    Bytes after the last line ending are dropped at EOF: a line that was cut off is not a message.
    """

    __slots__ = ("_scanned",)

    name = "text"

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self._scanned = 0  # so many bytes behind _pos are known to hold no LF

    has_pending = BufferedProtocol.has_pending

    def next_event(self) -> object:
        buffer = self._buffer
        if not buffer:
            return EOF if self._ended else NEED_DATA
        if len(buffer) <= _SHORT and not self._pos:
            # partition is twice as fast as find and a slice; what it copies of the rest is bounded.
            line, newline, rest = buffer.partition(b"\n")
            if not newline:
                return self._incomplete()
            self._buffer = rest
        else:
            pos = self._pos
            end = buffer.find(b"\n", pos + self._scanned)
            if end < 0:
                return self._incomplete()
            line = buffer[pos:end]
            self._consume(end + 1)
        self._scanned = 0
        if 0x0D in line and line[-1] == 0x0D:  # most have none at all
            line = line[:-1]
        if len(line) > self.max_package_size:
            raise self._fail(f"line longer than {self.max_package_size} bytes")
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise self._fail(f"line is not UTF-8: {error.reason} at byte {error.start}") from None

    def _incomplete(self) -> object:
        event = self._wait()
        self._scanned = len(self._buffer)
        # The last byte may yet turn out to be the CR of the line ending.
        if self._scanned - self._buffer.endswith(b"\r") > self.max_package_size:
            raise self._fail(f"line longer than {self.max_package_size} bytes")
        return event

    @property
    def encoding(self) -> type:
        return type(self)

    def encode(self, message: object) -> bytes:
        if type(message) is str:
            line = message.encode()
        else:
            line = to_bytes(message, "text", "str, bytes, bytearray, memoryview, dict or list")
        if 0x0A in line:  # quicker than b"\n"
            raise ValueError(
                "a message of the text protocol is one line: it cannot contain a newline"
            )
        return line + b"\n"


register_framing("text", TextProtocol)
