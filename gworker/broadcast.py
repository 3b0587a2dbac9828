"""One message to many connections, encoded once for all that encode it alike."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gworker.connection import Connection


def broadcast(connections: Iterable[Connection], message: Any, exclude: Container[Connection] = ()) -> int:
    """Send `message` to each of `connections` that is established; return how many took it. Never blocks.

    A connection that refuses it hears of that by its own on_error (see `Connection.send`).
    """
    encoded: dict[Hashable, bytes] = {}
    taken = 0
    for connection in connections:
        if not connection.is_established or (exclude and connection in exclude):
            continue
        kind = connection.encoding
        if kind is None:
            taken += connection.send(message)
            continue
        payload = encoded.get(kind)
        if payload is None:
            payload = encoded[kind] = connection.encode(message)
        taken += connection.send(payload, raw=True)
    return taken
