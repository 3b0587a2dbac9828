"""The protocol of a connection that speaks HTTP, and how an answer that is sent ends with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from gworker.connection.dispatcher import AnyConnection
from gworker.connection.state import ESTABLISHED

if TYPE_CHECKING:
    from gworker.protocols.http.protocol import HttpProtocol


def http_protocol(connection: AnyConnection) -> HttpProtocol:
    # The protocol of a connection from which an HttpEvent has come.
    return cast("HttpProtocol", connection.protocol_machine)  # such events come from no other


def reset_unless_delimited(connection: AnyConnection) -> None:
    # Reset the connection if the client cannot see otherwise that its answer was cut off.
    if not http_protocol(connection).delimits and connection.lifecycle is ESTABLISHED:
        connection.reset()


def end_soon(connection: AnyConnection) -> None:
    # Close politely while an answer is sent. One that has not begun yet is just the last one.
    protocol = http_protocol(connection)
    transfer = protocol.exchange
    protocol.closing = True
    if transfer is not None and transfer.event is None:
        transfer.seen = _taken(connection)
        connection.server_context.timeouts.closing(connection)
    protocol.notify_waiter()


def out_of_time(connection: AnyConnection) -> bool:
    """The answer did not end in `close_timeout`. True: it may go on, as its length is known and
    the peer takes it."""
    protocol = http_protocol(connection)
    transfer, taken = protocol.exchange, _taken(connection)
    if transfer is not None and transfer.left is not None and taken > transfer.seen:
        transfer.seen = taken
        connection.server_context.timeouts.closing(connection)
        return True
    reset_unless_delimited(connection)
    return False


def _taken(connection: AnyConnection) -> int:
    taken = connection.io.acknowledged
    return connection.io.bytes_written if taken is None else taken
