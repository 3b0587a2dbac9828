"""`connection.switch(protocol)`: going on with another protocol in the middle of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from gworker.connection.events import RESUME
from gworker.connection.stream import ESTABLISHED
from gworker.protocols import complete
from gworker.protocols import get as get_protocol
from gworker.protocols.base import Protocol
from gworker.protocols.lockstep import Lockstep, lockstep

if TYPE_CHECKING:
    from gworker.connection.connection import Connection


def switch(connection: Connection, protocol: str | type[Protocol] | Protocol) -> None:
    """See `Connection.switch`."""
    old = connection._protocol
    if not isinstance(old, Lockstep):
        raise RuntimeError(  # noqa: TRY004
            f"{connection!r} decodes ahead of its handler: switch() needs Worker(..., "
            "lockstep=True), "
            "or a protocol derived from gworker.protocols.Lockstep"
        )
    new = _made(protocol, old.max_package_size)
    if connection.status != ESTABLISHED.value:
        return
    connection._configure(new)
    rest = old.take_unparsed()
    if rest:
        new.receive_data(rest)
    if connection._transport.eof_received:
        new.receive_data(b"")
    new.closing = old.closing
    connection._protocol = new
    if connection._observer is not None:
        connection._observer.switched(new)
    connection._paused = True  # the new one is asked for events when it is the connection's turn
    if connection._job is not getcurrent():
        connection._deliver(RESUME)


def _made(protocol: Any, max_package_size: int) -> Protocol:
    if isinstance(protocol, Protocol):
        return protocol
    cls = get_protocol(protocol) if isinstance(protocol, str) else protocol
    if not (isinstance(cls, type) and issubclass(cls, Protocol)):
        raise TypeError(
            "switch() takes the name of a protocol, a Protocol class or an instance, not "
            f"{protocol!r}"
        )
    return lockstep(complete(cls))(max_package_size)
