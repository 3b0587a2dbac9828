"""`connection.pipe(destination)`: forward everything, no faster than the other side takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gworker.dialogue import Dialogue

if TYPE_CHECKING:
    from gworker.connection import Connection


def pipe(source: Connection, destination: Connection) -> None:
    """Send every message of `source` to `destination`; when one of them closes, close the other.

    While the send buffer of `destination` is full, the handler of `source` waits, so that its inbox
    fills and reading stops: the kernel holds the peer back. A destination that is still being dialled keeps as
    much as its send buffer may hold. Callbacks that were set before are still called, except on_message of `source`.
    """

    for end in (source, destination):
        if not isinstance(end, Dialogue):
            raise TypeError(f"pipe() joins two connections, as gworker.connect(url) makes them, not {end!r}")

    def is_full() -> bool:
        return destination.send_queue >= destination.max_send_buffer_size

    def forward(_: Connection, data: Any) -> None:
        while is_full() and destination.drain():
            continue  # by another source, say: it would be refused
        destination.send(data)
        if is_full():
            destination.drain()

    source.on_message = forward
    source.on_close = _then(source.on_close, lambda _: destination.close())
    destination.on_close = _then(destination.on_close, lambda _: source.close())


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
