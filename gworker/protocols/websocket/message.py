"""A WebSocket message that is still arriving: fragments, or a frame whose payload is not all here.

It exists only while it is needed; a message that comes as one whole frame never makes one.
"""

from __future__ import annotations

from codecs import utf_8_decode

from gworker.core import ReceiveBuffer, apply_mask
from gworker.protocols.base import LARGE
from gworker.protocols.websocket.frames import INVALID_DATA, Violation


def not_utf8(error: UnicodeDecodeError) -> Violation:
    # RFC 6455 section 8.1.
    return Violation(INVALID_DATA, f"text is not UTF-8: {error.reason}")


class PartialMessage:
    """Collects payload, unmasked on arrival.

    left: bytes of the current frame's payload that are still to come
    buffer: what has come of a large message of one frame; others are collected in `data`
    is_final: whether the current frame is the last of the message
    dropped: what arrives is not kept, because it will not be read
    is_compressed: what arrives is to be inflated, when it is complete
    """

    __slots__ = (
        "_checked",
        "_left",
        "_mask",
        "_noticed",
        "buffer",
        "data",
        "dropped",
        "is_compressed",
        "is_final",
        "is_text",
    )

    def __init__(self, is_text: bool, dropped: bool = False, is_compressed: bool = False) -> None:
        self.is_text = is_text
        self.dropped = dropped
        self.is_compressed = is_compressed
        self.is_final = False
        self._left = 0
        self.buffer: ReceiveBuffer | None = None
        self.data: bytes | bytearray = b""
        self._mask = b""
        self._checked = 0  # so much of data is known to be UTF-8
        self._noticed: int | None = None

    def noticed(self, received: int) -> int:
        # A number that no other message of the connection has: the bytes that it had received when
        # first asked. Whatever arrives next begins behind them, because this message was not
        # complete then.
        if self._noticed is None:
            self._noticed = received
        return self._noticed

    def begin_frame(self, is_final: bool, length: int, mask: bytes) -> None:
        # Begin with the payload of a frame. mask: b"" if it has none.
        self.is_final = is_final
        if is_final and length >= LARGE and not self.data and not self.dropped:
            is_watched = self.is_text and not self.is_compressed
            self.buffer = ReceiveBuffer(length, mask, is_watched)
            return
        self._left = length
        self._mask = mask

    @property
    def left(self) -> int:
        return self._left if self.buffer is None else self.buffer.left

    def add(self, payload: memoryview) -> None:
        buffer = self.buffer
        if buffer is not None:
            buffer.add(payload)
            if buffer.is_watched:
                self._checked += self._check_text(buffer.since(self._checked))
            return
        size = len(payload)
        self._left -= size
        if self.dropped:
            return
        mask = self._mask
        turn = size & 3
        if turn:
            self._mask = mask[turn:] + mask[:turn]
        self._store(apply_mask(payload, mask) if mask else payload)

    def _store(self, payload: bytes | memoryview) -> None:
        # A message in two pieces, a little longer than one read, is copied only once more.
        if self.data and isinstance(self.data, bytes) and not (self.is_final and not self._left):
            self.data = bytearray(self.data)
        self.data += payload
        if self.is_text and not self.is_compressed:
            with memoryview(self.data) as view:
                self._checked += self._check_text(view[self._checked :])

    def drop(self) -> None:
        self._left, self.buffer = self.left, None
        self.dropped = True
        self.data = b""

    @staticmethod
    def _check_text(data: bytes | memoryview) -> int:
        # Refuse as soon as the bytes so far cannot become UTF-8, not only when the message is
        # complete. Returns how many of them are UTF-8.
        try:
            checked: int = utf_8_decode(data, "strict", False)[1]
        except UnicodeDecodeError as error:
            raise not_utf8(error) from None
        rest = bytes(data[checked : checked + 2])
        if (
            rest[:1] == b"\xed" and rest[1:] >= b"\xa0"
        ):  # half a surrogate, for which Python waits longer
            raise Violation(INVALID_DATA, "text is not UTF-8: invalid continuation byte")
        return checked

    def payload(self) -> bytes | bytearray:
        # Return all of the complete message, as it was sent.
        return self.data if self.buffer is None else self.buffer.take()

    def result(self) -> str | bytes:
        # Return the complete message, which was not compressed. UnicodeDecodeError if text ends
        # within a character.
        return self.payload().decode() if self.is_text else bytes(self.payload())
