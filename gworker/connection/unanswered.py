"""HTTP handlers that return without an answer and keep nothing to give one with: their clients wait
for ever.

A handler may answer later, if it has kept its connection: then something besides the server refers
to that. One exchange of each handler is checked `SECONDS` after the handler has returned, and
each handler is warned of once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from gworker.connection.registry import Registered
from gworker.system.event_loop import Loop, Watcher

log = logging.getLogger("gworker")


SECONDS = 30.0

MAX_WARNINGS = 256  # handlers that are warned of: an application may make new ones all the time

# To a connection that waits, from the server: the table of connections, its transport, and the
# variable and the argument that are in use here.
OWN_REFERENCES = 4


class Unanswered:
    """The exchanges of one process that are checked. connections: the open ones, by id."""

    def __init__(self, loop: Loop, connections: Mapping[int, Any]) -> None:
        self._loop = loop
        self._connections = connections
        # The timer of each handler of which an exchange is checked; by the handler's name.
        self._watched: dict[str, Watcher] = {}
        self._warned: set[str] = set()

    def watch(self, connection: Registered, handler: object) -> None:
        """`handler` has returned, and the answer that it owes to `connection` is not given."""
        name = name_of(handler)
        if name in self._watched or name in self._warned or len(self._warned) >= MAX_WARNINGS:
            return
        self._watched[name] = timer = self._loop.timer(SECONDS)
        timer.start(self._check, name, connection.id, connection.bytes_written)

    def _check(self, name: str, number: int, written: int) -> None:
        self._watched.pop(name).close()
        connection = self._connections.get(number)
        if (
            connection is None
            or connection.bytes_written != written
            or not connection.awaits_answer
        ):
            return
        if sys.getrefcount(connection) <= OWN_REFERENCES:
            self._warned.add(name)
            log.warning(
                "on_message (%s) has returned without an answer %g s ago and has kept nothing to "
                "answer with later:"
                " the client waits for ever. Return the answer, or give it with connection.send()",
                name, SECONDS,
            )  # fmt: skip


def name_of(handler: object) -> str:
    return getattr(handler, "__qualname__", None) or type(handler).__qualname__
