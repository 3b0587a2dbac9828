"""The socket of the local broker, which the arbiter binds and holds for its whole life.

So connections that come while no broker process runs wait in the kernel's queue, and none is
refused. A worker process connects by a descriptor of the file (`address`): it may neither be able
to enter the directory, nor find the file there when something has cleaned up. If the file is gone,
a further socket is bound in its place, for programs outside.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Sequence
from typing import Any

from gworker.errors import ConfigError
from gworker.system import unix_socket
from gworker.system.pid_file import is_current
from gworker.system.unix_socket import UnixFile

# Processes, and programs outside, that may wait at the same moment.
BACKLOG = 1024


class BrokerSocket:
    """Not open at first. file: mode and owner of the socket."""

    def __init__(self, file: UnixFile) -> None:
        self.file = file
        self.path = ""
        # The first one, and the one in its place if its file is gone.
        self.listeners: list[socket.socket] = []
        # Descriptors of the files of both (open(2), O_PATH).
        self._files: list[int] = []

    @property
    def address(self) -> str:
        """Where a child connects; "": there is no local broker."""
        return f"/proc/self/fd/{self._files[0]}" if self._files else ""

    def open(self, path: str) -> None:
        """Bind at `path`, which is this instance's as its pid file is. Raises ConfigError.

        The processes of an arbiter that was killed may still listen there; they go on with what
        they have.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    os.unlink(path)
            unix_socket.bind_file(listener, path, self.file, BACKLOG)
            listener.setblocking(False)
            found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (ConfigError, OSError) as error:
            listener.close()
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"cannot open the socket of the broker {path}: {why}") from None
        self.path = path
        self.listeners.append(listener)
        self._files.append(found)

    def restore(self, path: str | None) -> str | None:
        """Bind a further socket if nothing of ours is at `path`; return it then. Raises
        ConfigError."""
        if not self.listeners or path is None:
            return None
        if path == self.path and is_current(self._files[-1], path):
            return None
        self.open(path)
        for listener in self.listeners[1:-1]:
            listener.close()
        for descriptor in self._files[1:-1]:
            os.close(descriptor)
        del self.listeners[1:-1], self._files[1:-1]
        return path

    def close(self) -> None:
        """Close all, and remove the file if it is still ours."""
        if self._files and is_current(self._files[-1], self.path):
            os.unlink(self.path)
        self.close_in_child()

    def close_in_child(self) -> None:
        """Close the copies of a forked process that does not serve."""
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()

    # ---- over an exec

    def descriptors(self) -> list[int]:
        return [*(each.fileno() for each in self.listeners), *self._files]

    def document(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "listeners": [each.fileno() for each in self.listeners],
            "files": self._files,
        }

    def adopt(self, path: str, listeners: Sequence[int], files: Sequence[int]) -> None:
        """Hold the sockets that were bound before an exec."""
        self.path = path
        self.listeners = [socket.socket(fileno=each) for each in listeners]
        self._files = list(files)
