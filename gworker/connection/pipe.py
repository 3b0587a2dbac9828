"""`connection.pipe(destination)`: forward everything, no faster than the other side takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gworker.connection.dialogue import Dialogue

if TYPE_CHECKING:
    from gworker.connection.connection import Connection
    from gworker.connection.session import Session

ENDED = ("closing", "closed")


def pipe(source: Connection, destination: Connection) -> None:
    """Send every message of `source` to `destination`; when one of them closes, close the other.

    While the send buffer of `destination` is full, the handler of `source` waits, so that its inbox
    fills and reading stops: the kernel holds the peer back. A destination that is still being
    dialled keeps as much as its send buffer may hold. Callbacks that were set before are still
    called, except on_message of `source`. If one of them has closed before, the other is closed
    now. Raises TypeError for what is no connection.
    """
    _check(source, destination)
    source.on_message = lambda _, message: _forward(message, destination)
    _join(source, destination)


def pump(source: Session, destination: Connection) -> None:
    """As `pipe`, within the handler of `source`, until one of the two has ended."""
    _check(source, destination)
    _join(source, destination)
    for message in source:
        _forward(message, destination)
    destination.close()


def _check(*ends: Any) -> None:
    for end in ends:
        if not isinstance(end, Dialogue):
            raise TypeError(
                f"pipe() joins two connections, as gworker.connect(url) makes them, not {end!r}"
            )


def _forward(message: Any, destination: Connection) -> None:
    while destination.is_full and destination.drain():
        continue  # by another source, say: it would be refused
    destination.send(message)
    if destination.is_full:
        destination.drain()


def _join(source: Connection, destination: Connection) -> None:
    """When one of them closes, or has closed, close the other."""
    source.on_close = _then(source.on_close, lambda _: destination.close())
    destination.on_close = _then(destination.on_close, lambda _: source.close())
    if source.status in ENDED:
        destination.close()
    elif destination.status in ENDED:
        source.close()


def _then(
    first: Callable[[Connection], object] | None, second: Callable[[Connection], object]
) -> Callable[[Connection], object]:
    def both(connection: Connection) -> None:
        try:
            if first is not None:
                first(connection)
        finally:
            second(connection)

    return both
