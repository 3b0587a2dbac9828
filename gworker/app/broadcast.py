"""One message to many connections, encoded once for all that encode it alike."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable
from typing import Any


def broadcast(connections: Iterable[Any], message: Any, exclude: Container[Any] = ()) -> int:
    """Send `message` to each of `connections` that takes what it has not asked for; return how many
    took it.

    Never blocks. An HTTP connection takes answers only, a WebSocket nothing before it is open: they
    are left out. A connection that refuses it hears of that by its own on_error (see
    `Connection.send`). What one that encodes for itself raises is raised when all others have
    theirs.
    """
    encoded: dict[Hashable, bytes] = {}
    taken = 0
    failure: Exception | None = None
    for connection in connections:
        if not connection.accepts_unsolicited or (exclude and connection in exclude):
            continue
        kind = connection.encoding
        if kind is None:
            try:
                taken += connection.send(message)
            except Exception as error:
                failure = error
            continue
        payload = encoded.get(kind)
        if payload is None:
            payload = encoded[kind] = connection.encode(message)
        taken += connection.send(payload, raw=True)
    if failure is not None:
        raise failure
    return taken
