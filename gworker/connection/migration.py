"""What is asked for of a connection while its socket is on its way to another process.

A Migration exists only then. What it holds is done where the connection goes on: here if the other
process does not take the socket, or there.
"""

from __future__ import annotations

from typing import Any, Protocol

from gworker.connection.context import ServerContext

Deferred = tuple[Any, ...]
"""(id of the connection, what was asked for, arguments)."""


class Resumed(Protocol):
    """A connection that goes on."""

    @property
    def id(self) -> int: ...
    @property
    def server_context(self) -> ServerContext: ...
    def write(self, data: bytes) -> bool: ...
    def send(self, data: Any) -> bool: ...
    def close(self, data: Any = None, code: int = 1000, reason: str = "") -> None: ...
    def pause_recv(self) -> None: ...
    def resume_recv(self) -> None: ...


class Migration:
    """The calls that wait, of the connection number `id`."""

    __slots__ = ("deferred", "id", "size")

    def __init__(self, id: int) -> None:
        self.id = id
        self.deferred: list[Deferred] = []
        self.size = 0
        """Bytes that were encoded and wait."""

    def defer(self, name: str, *arguments: Any) -> None:
        """Do this later: `write` (bytes), `send` (a message), `close` (code, reason), `pause_recv`
        or `resume_recv`."""
        if name == "write":
            self.size += len(arguments[0])
        self.deferred.append((self.id, name, *arguments))


def apply(connection: Resumed, deferred: list[Deferred]) -> None:
    """Do what was asked for. A message that the protocol cannot carry is lost."""
    for _, name, *arguments in deferred:
        if name == "close":
            connection.close(None, *arguments)
        elif name == "send":
            try:
                connection.send(*arguments)
            except (TypeError, ValueError):  # its sender went on long ago
                connection.server_context.report_exception(
                    "%r: a message that was sent while it moved", connection
                )
        else:
            getattr(connection, name)(*arguments)
