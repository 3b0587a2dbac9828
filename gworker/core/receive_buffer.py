"""Where a message goes of which it is known how many bytes are to come."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from gworker.core.masking import apply_mask

READ_SIZE = 126976  # bytes per recv(2): above 128 KiB malloc(3) would map memory anew each time


class ReceiveBuffer:
    """The body of a request, or the payload of a large message, while it arrives. What is read from
    the socket is read to where it stays.

    size: its bytes. mask: what they are XORed with (RFC 6455, 5.3); b"": nothing. is_watched: its
    protocol looks at each piece, not only at the whole. content: what has come of it elsewhere.
    left: bytes that are to come. The memory that it has is bounded by what has come, not by `size`.
    """

    __slots__ = ("_content", "is_watched", "left", "mask", "size")

    def __init__(
        self, size: int, mask: bytes = b"", is_watched: bool = False, content: bytes = b""
    ) -> None:
        self.size = size
        self.mask = mask
        self.is_watched = is_watched
        self.left = size - len(content)
        self._content = BytesIO(content)
        self._content.seek(len(content))

    @property
    def room(self) -> int:
        """How many bytes `read_from` asks for."""
        return min(self.left, READ_SIZE)

    def read_from(self, socket: Any) -> int:
        """Read from `socket` once; return the number of bytes. Raises what its `recv` does."""
        data = socket.recv(self.room)
        self.add(data)
        return len(data)

    def add(self, data: bytes | memoryview) -> None:
        """`data` comes next. ValueError if that is more than is left."""
        size = len(data)
        if size > self.left:
            raise ValueError(f"{size} bytes for a buffer that lacks {self.left}")
        mask = self.mask
        if mask:
            turn = self.size - self.left & 3
            data = apply_mask(data, mask[turn:] + mask[:turn])
        self._content.write(data)
        self.left -= size

    def since(self, start: int) -> bytes:
        """A copy of what has come, from the byte `start` on."""
        with self._content.getbuffer() as view:
            return bytes(view[start:])

    def take(self) -> bytes:
        """What has come, without a copy. It is the last call."""
        return self._content.getvalue()
