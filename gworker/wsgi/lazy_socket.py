"""`environ["gunicorn.socket"]`: the client's socket, for libraries that shake hands themselves."""

from __future__ import annotations

from _socket import SHUT_RDWR
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class LazySocket:
    """Is the connection's socket from its first use on. detach: gives it."""

    def __init__(self, detach: Callable[[], Any]) -> None:
        self._detach = detach
        self._socket: Any = None

    @property
    def is_taken(self) -> bool:
        return self._socket is not None

    def __getattr__(self, name: str) -> Any:
        if self._socket is None:
            self._socket = self._detach()
        return getattr(self._socket, name)

    def end(self) -> None:
        """End the stream, which another greenlet may read, and close it."""
        with suppress(OSError):  # the peer was quicker
            self._socket.shutdown(SHUT_RDWR)
        self._socket.close()
