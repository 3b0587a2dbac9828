"""The socket of a connection in the hands of its user (`Connection.detach`): cooperative, counted,
over TLS as well. It is a copy of the descriptor: the connection ends when it is closed."""

from __future__ import annotations

import _socket
import os
import weakref
from collections.abc import Callable
from typing import Any

from gworker.connection.cooperative_socket import CountingSocket, TlsCountingSocket
from gworker.tls.socket import TlsSocket


class LentSocket(CountingSocket):
    """ahead: what was read before, which comes first. sending: called with the bytes that are about
    to be sent; None: that is not to be known. ended: called when it is closed, or freed."""

    ahead = b""
    sending: Callable[[Any], object] | None = None
    ended: Callable[[], object]

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self.ahead:
            data = self.ahead[:size]
            if not flags & _socket.MSG_PEEK:
                self.ahead = self.ahead[size:]
            return data
        return super().recv(size, flags)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        if self.ahead:
            view = memoryview(buffer).cast("B")
            data = self.recv(nbytes or len(view), flags)
            view[: len(data)] = data
            return len(data)
        return super().recv_into(buffer, nbytes or 0, flags)

    def send(self, data: Any, *arguments: Any, **options: Any) -> int:
        if self.sending is not None:
            self.sending(data)
        return super().send(data, *arguments, **options)

    def close(self) -> None:
        super().close()
        if self.fileno() == -1:  # no file that was made of it is open any more
            self.ended()

    def when_closed(self, function: Callable[[], object]) -> None:
        """Call `function` when it is closed, or freed; once, from where that happens."""
        self.ended = made = weakref.finalize(self, function)
        made.atexit = False


class LentTlsSocket(LentSocket, TlsCountingSocket):
    """As ssl.SSLSocket: see `TlsCountingSocket`."""


def lend(socket: _socket.socket, ahead: bytes) -> LentSocket:
    """A cooperative socket on a copy of the descriptor of `socket`, which stays open."""
    copy = os.dup(socket.fileno())
    made: LentSocket
    if isinstance(socket, TlsSocket):
        made = secure = LentTlsSocket(socket.family, socket.type, socket.proto, copy)
        secure.secure = socket
    else:
        made = LentSocket(socket.family, socket.type, socket.proto, copy)
    made.ahead = ahead
    return made
