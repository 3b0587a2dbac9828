"""One message to many connections: encoded once for all that encode it alike."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from gworker.core import send_to_all


def send_once_encoded(connections: list[Any], message: Any) -> int:
    """Send `message` to each of `connections`; see `Worker.broadcast`."""
    encoded: dict[Hashable, bytes] = {}
    failure: Exception | None = None
    taken, others = send_to_all(connections, message)
    for connection in others:
        if not connection.accepts_unsolicited:
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
