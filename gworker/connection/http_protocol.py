"""The protocol of a connection that speaks HTTP."""

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
