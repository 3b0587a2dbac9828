"""`connection.pipe(destination)`: forward everything, no faster than the other side takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gworker.connection.attributes import Attributes
from gworker.connection.dispatcher import AnyConnection

ENDED = ("closing", "closed")

OnClose = Callable[[Any], object] | None


def pipe(source: AnyConnection, destination: AnyConnection) -> None:
    """Send every message of `source` to `destination`; when one of them closes, close the other.

    While the send buffer of `destination` is full, the handler of `source` waits, so that its job
    fills and reading stops: the kernel holds the peer back. A destination that is still being
    dialled keeps as much as its send buffer may hold. Callbacks that were set before are still
    called, except on_message of `source`. If one of them has closed before, the other is closed
    now. Raises TypeError for what is no connection.
    """
    _check(source, destination)
    source.set_callback("on_message", lambda _, message: _forward(message, destination))
    _join(source, destination)


def pump(source: AnyConnection, destination: AnyConnection) -> None:
    """As `pipe`, within the handler of `source`, until one of the two has ended."""
    _check(source, destination)
    _join(source, destination)
    while (message := source.recv()) is not None:
        _forward(message, destination)
    destination.close()


def _check(*ends: Any) -> None:
    for end in ends:
        if not isinstance(end, Attributes):
            raise TypeError(
                f"pipe() joins two connections, as gworker.connect(url) makes them, not {end!r}"
            )


def _forward(message: Any, destination: AnyConnection) -> None:
    while destination.is_full and destination.drain():
        continue  # by another source, say: it would be refused
    destination.send(message)
    if destination.is_full:
        destination.drain()


def _join(source: AnyConnection, destination: AnyConnection) -> None:
    source.set_callback("on_close", _then(source.on_close, destination))
    destination.set_callback("on_close", _then(destination.on_close, source))
    if source.status in ENDED:
        destination.close()
    elif destination.status in ENDED:
        source.close()


def _then(first: OnClose, other: AnyConnection) -> Callable[[Any], None]:
    def both(connection: Any) -> None:
        try:
            if first is not None:
                first(connection)
        finally:
            other.close()

    return both
