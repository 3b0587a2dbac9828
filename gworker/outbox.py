"""What a connection could not write at once: pieces in order, sent when the socket takes them.

An Outbox exists only while something is queued. It owns the write watcher, so that there is one
exactly as long as there is something to write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gevent.event import Event

if TYPE_CHECKING:
    import _socket

MAX_WRITE = 262144
"""Bytes handed to one send(2): more than a socket buffer takes at once is only copied for nothing."""


class Outbox:
    """The queue of unsent bytes of one connection. `full`: its owner was told that it is."""

    __slots__ = ("_drained", "_pieces", "_watcher", "full", "size")

    def __init__(self, watcher: Any, on_writable: Callable[[], None]) -> None:
        self._pieces: deque[memoryview] = deque()
        self._drained: Event | None = None
        self._watcher = watcher
        self.size = 0
        self.full = False
        watcher.start(on_writable)

    def append(self, data: bytes | memoryview) -> None:
        """Queue `data` behind what is there."""
        self._pieces.append(memoryview(data))
        self.size += len(data)

    def flush(self, socket: _socket.socket) -> int:
        """Send what the socket takes now; return the number of bytes. Raises OSError, but not EAGAIN."""
        sent = 0
        pieces = self._pieces
        while pieces:
            piece = pieces[0]
            try:
                taken = socket.send(piece[:MAX_WRITE])
            except BlockingIOError:
                break
            sent += taken
            if taken == len(piece):
                pieces.popleft()
            else:
                pieces[0] = piece[taken:]
        self.size -= sent
        return sent

    def wait(self, timeout: float | None) -> bool:
        """Block this greenlet until the outbox is closed. False: `timeout` seconds passed first."""
        if self._drained is None:
            self._drained = Event()
        return self._drained.wait(timeout)

    def data(self) -> bytes:
        """Everything that waits, as one piece."""
        return b"".join(self._pieces)

    def pause(self) -> None:
        """Send nothing until `resume`."""
        self._watcher.stop()

    def resume(self, on_writable: Callable[[], None]) -> None:
        """Go on after `pause`."""
        self._watcher.start(on_writable)

    def close(self) -> None:
        """Give up the watcher and wake who waits: everything is sent, or nothing more will be."""
        self._watcher.stop()
        self._watcher.close()
        if self._drained is not None:
            self._drained.set()
