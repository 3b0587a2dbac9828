"""What a connection could not write at once: pieces in order, sent when the socket takes them.

A WriteBuffer exists only while something is queued.

Small pieces are joined, so that `size` is also the memory that the queue takes: on its own, a piece
of one byte would take more than 200. A large piece is kept as it is, and freed when little of it is
left.
"""

from __future__ import annotations

import _socket
from collections import deque

from gevent.event import Event

from gworker.protocols.base import LARGE

# Bytes handed to one send(2): more than a socket buffer takes at once is only copied for nothing.
MAX_WRITE = 262144

# Bytes up to which small pieces are joined into one.
JOINED = 65536

# The rest of a large piece, or small ones that were joined.
Piece = memoryview | bytearray


class WriteBuffer:
    """The queue of unsent bytes of one connection.

    full: its owner was told that it is. seen: what the peer had taken of all when that was last
    looked at.
    """

    __slots__ = ("_drained", "_pieces", "full", "seen", "size")

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._drained: Event | None = None
        self.size = 0
        self.full = False
        self.seen = 0

    def append(self, data: bytes, start: int = 0) -> None:
        """Queue `data[start:]` behind what is there. Large pieces are kept, small ones are
        copied."""
        left = len(data) - start
        self.size += left
        if left >= LARGE:
            self._pieces.append(memoryview(data)[start:])
        elif left:
            self._join(memoryview(data)[start:])

    def _join(self, data: memoryview) -> None:
        pieces = self._pieces
        if pieces:
            last = pieces[-1]
            if isinstance(last, bytearray) and len(last) + len(data) <= JOINED:
                last += data
                return
        pieces.append(bytearray(data))

    def flush(self, socket: _socket.socket) -> int:
        """Send what the socket takes now; return the number of bytes. Raises OSError, but not
        EAGAIN."""
        sent = 0
        pieces = self._pieces
        while pieces:
            piece = pieces[0]
            try:
                taken = socket.send(piece[:MAX_WRITE] if isinstance(piece, memoryview) else piece)
            except BlockingIOError:
                break
            sent += taken
            self._cut_first(piece, taken)
        self.size -= sent
        return sent

    def _cut_first(self, piece: Piece, taken: int) -> None:
        # Forget so many bytes of the first piece, which are sent.
        if taken == len(piece):
            self._pieces.popleft()
        elif isinstance(piece, bytearray):
            del piece[:taken]  # moves a pointer, and gives memory back
        else:
            rest = piece[taken:]
            self._pieces[0] = rest if len(rest) >= LARGE else bytearray(rest)

    def wait(self, timeout: float | None) -> bool:
        """Block this greenlet until the buffer is closed. False: `timeout` seconds passed first."""
        if self._drained is None:
            self._drained = Event()
        return self._drained.wait(timeout)

    def data(self) -> bytes:
        return b"".join(self._pieces)

    def close(self) -> None:
        """Wake what waits: everything is sent, or nothing more will be."""
        if self._drained is not None:
            self._drained.set()
