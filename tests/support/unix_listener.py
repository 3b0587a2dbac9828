"""A unix socket that listens, as the control socket of an instance does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from gworker.system.unix_socket import PRIVATE, bind_file


@contextmanager
def listening_at(path: str) -> Iterator[socket.socket]:
    """One at `path`. Its file stays, as that of a process that was killed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        bind_file(listener, path, PRIVATE, 4)
        listener.setblocking(False)
        yield listener
