"""frame: a 4-byte big-endian length that counts itself, then the payload."""

from __future__ import annotations

from struct import Struct

from gworker.core import register_framing
from gworker.protocols.base import EOF, NEED_DATA
from gworker.protocols.buffered import BufferedProtocol, to_bytes

_LENGTH = Struct(">I")
_read_length = _LENGTH.unpack_from
_write_length = _LENGTH.pack
_LARGEST = 0xFFFFFFFF - 4


class FrameProtocol(BufferedProtocol):
    """Messages are the payload as `bytes`; sends bytes-like objects, and str as UTF-8."""

    __slots__ = ()

    name = "frame"

    has_pending = BufferedProtocol.has_pending

    def next_event(self) -> object:
        buffer = self._buffer
        if not buffer:
            return EOF if self._ended else NEED_DATA
        pos = self._pos
        size = len(buffer) - pos
        if size < 4:
            return self._wait()
        (length,) = _read_length(buffer, pos)
        if length < 4 or length > self.max_package_size:
            raise self._fail(f"frame length {length} is not between 4 and {self.max_package_size}")
        if length == size:
            payload = buffer[pos + 4 :]
            self._buffer = b""
            self._pos = 0
        elif length < size:
            payload = buffer[pos + 4 : pos + length]
            self._consume(pos + length)
        else:
            return self._wait()
        return payload if type(payload) is bytes else bytes(payload)

    @property
    def encoding(self) -> type:
        return type(self)

    def encode(self, message: object) -> bytes:
        payload = message if type(message) is bytes else to_bytes(message, "frame")
        return _head(payload) + payload

    def split(self, message: object) -> tuple[bytes, bytes] | None:
        return (_head(message), message) if type(message) is bytes else None


def _head(payload: bytes) -> bytes:
    if len(payload) > _LARGEST:
        raise ValueError(f"a frame carries at most {_LARGEST} bytes, not {len(payload)}")
    return _write_length(len(payload) + 4)


register_framing("frame", FrameProtocol)
