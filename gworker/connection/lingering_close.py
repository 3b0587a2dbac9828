"""Closing a socket without a reset.

close(2) on a socket whose receive buffer holds unread bytes sends RST, and the peer may lose the
answer that was still on its way (RFC 1122, 4.2.2.13; RFC 9112, 9.6). So the sending side is shut
down first, whatever still arrives is thrown away, and the socket is closed when the peer has closed
its side or the time is up.
"""

from __future__ import annotations

import _socket
from _socket import SHUT_WR
from collections.abc import Callable
from contextlib import suppress

from gworker.system.epoll import READ
from gworker.system.event_loop import Loop
from gworker.system.socket_options import forget_unsent

SECONDS = 2.0  # how long a peer may take to close its side

MAX_BYTES = 1 << 20  # bytes thrown away before the connection is cut all the same


class LingeringClose:
    """The sockets of one process that are being closed.

    seconds: for how long the kernel may keep what a peer does not take; 0: any time. closed: called
    after each that has lingered.
    """

    def __init__(self, loop: Loop, seconds: float, closed: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self.closed = closed
        self.sockets: set[Lingering] = set()

    def close(self, socket: _socket.socket) -> None:
        """Close `socket` without a reset, when the peer has closed its side. Never raises."""
        try:
            socket.shutdown(SHUT_WR)
        except OSError:
            socket.close()
            return
        self.sockets.add(Lingering(self, self._loop, socket))

    def close_now(self, socket: _socket.socket) -> None:
        with suppress(OSError):
            forget_unsent(socket, self._seconds)
        socket.close()


class Lingering:
    __slots__ = ("_owner", "_read", "_socket", "_timer", "_watcher")

    def __init__(self, owner: LingeringClose, loop: Loop, socket: _socket.socket) -> None:
        self._owner = owner
        self._socket = socket
        self._read = 0
        self._watcher = loop.io(socket.fileno(), READ)
        self._watcher.start(self._on_readable)
        self._timer = loop.timer(SECONDS)
        self._timer.start(self._finish, update=True)  # the loop may have stood still until now

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._read += len(data)
        if not data or self._read > MAX_BYTES:
            self._finish()

    def _finish(self) -> None:
        self._leave()
        self._owner.close_now(self._socket)
        self._owner.closed()

    def _leave(self) -> None:
        for watcher in (self._watcher, self._timer):
            watcher.stop()
            watcher.close()
        self._owner.sockets.discard(self)

    def let_go(self) -> None:
        self._leave()
        self._socket.close()
