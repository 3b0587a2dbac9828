"""frame: a 4-byte big-endian length that counts itself, then the payload."""

from __future__ import annotations

from struct import Struct

from gworker.core import ReceiveBuffer, register_framing
from gworker.protocols.base import EOF, LARGE, NEED_DATA
from gworker.protocols.buffered import BufferedProtocol, to_bytes

_LENGTH = Struct(">I")
_read_length = _LENGTH.unpack_from
_write_length = _LENGTH.pack
_LARGEST = 0xFFFFFFFF - 4


class FrameProtocol(BufferedProtocol):
    """Messages are the payload as `bytes`; sends bytes-like objects, and str as UTF-8."""

    __slots__ = ("_payload",)

    name = "frame"

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self._payload: ReceiveBuffer | None = None  # of a large frame that is arriving

    has_pending = BufferedProtocol.has_pending

    @property
    def is_partial(self) -> bool:
        return self._payload is not None or bool(self._buffer)

    def message_start(self, received: int) -> int | None:
        payload = self._payload
        if payload is None:
            return super().message_start(received)
        return received - (len(self._buffer) - self._pos) - (payload.size - payload.left) - 4

    @property
    def receive_buffer(self) -> ReceiveBuffer | None:
        return self._payload

    def next_event(self) -> object:
        if self._payload is not None:
            return self._read_payload(self._payload)
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
        elif length < LARGE:
            return self._wait()
        else:
            self._payload = ReceiveBuffer(length - 4)
            self._consume(pos + 4)
            return self._read_payload(self._payload)
        return payload if type(payload) is bytes else bytes(payload)

    def _read_payload(self, payload: ReceiveBuffer) -> object:
        self._move_into(payload)
        if not payload.left:
            self._payload = None
            return payload.take()
        if self._ended:
            self._payload = None
        return self._wait()

    def take_unparsed(self) -> bytes:
        payload, self._payload = self._payload, None
        begun = b"" if payload is None else _write_length(payload.size + 4) + payload.since(0)
        return begun + super().take_unparsed()

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
