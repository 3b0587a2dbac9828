"""`connection.switch(protocol)`: going on with another protocol in the middle of a connection."""

from __future__ import annotations

from typing import Any

from gworker.connection.dispatcher import AnyConnection
from gworker.connection.events import CONTINUE_PARSING
from gworker.connection.state import ESTABLISHED
from gworker.protocols import complete
from gworker.protocols import get as get_protocol
from gworker.protocols.base import Protocol
from gworker.protocols.lockstep import lockstep


def switch(connection: AnyConnection, protocol: str | type[Protocol] | Protocol) -> None:
    """See `Connection.switch`."""
    old = connection.protocol_machine
    if not old.lockstep:
        raise RuntimeError(
            f"{connection!r} decodes ahead of its handler: switch() needs Worker(..., "
            "lockstep=True), "
            "or a protocol derived from gworker.protocols.Lockstep"
        )
    new = _made(protocol, old.max_package_size)
    if connection.lifecycle is not ESTABLISHED:
        return
    connection.configure(new)
    rest = old.take_unparsed()
    connection.io.read_into(None)
    if rest:
        new.receive_data(rest)
    if connection.io.eof_received:
        new.receive_data(b"")
    new.closing = old.closing
    connection.protocol_machine = new
    if connection.observer is not None:
        connection.observer.switched(new)
    # The new one is asked for events when it is the connection's turn.
    connection.parser_paused = True
    job = connection.event_job
    if job is None or not job.is_current:
        connection.post(CONTINUE_PARSING)


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
