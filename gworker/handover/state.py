"""A connection as bytes, for another process."""

from __future__ import annotations

import _socket
import pickle
from typing import Any

from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.system import fork_guard


class CannotFreezeError(Exception):
    """Something that the application has put into a connection cannot be pickled. part: where."""

    def __init__(self, part: str, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.part = part


class CannotThawError(Exception):
    """The connection has no place here."""


def freeze(connection: Connection) -> bytes:
    """Return what `thaw` needs in another process, besides the socket. The connection is suspended
    before. Raises CannotFreezeError."""
    server = connection.server_context
    try:
        return pickle.dumps(
            {
                "id": connection.id,
                "remote": connection.io.remote,
                "protocol": connection.protocol_machine,
                "connection": connection.state(),
                "timeouts": server.timeouts.save(connection),
            },
            pickle.HIGHEST_PROTOCOL,
        )
    except BaseException as error:
        fork_guard.end(error)
        raise CannotFreezeError(_part_at_fault(connection), error) from error


def _part_at_fault(connection: Connection) -> str:
    try:
        pickle.dumps(connection.context, pickle.HIGHEST_PROTOCOL)
    except BaseException as error:
        fork_guard.end(error)
        return "a context that cannot be pickled"
    return "a protocol that cannot be pickled"


def thaw(server: ServerContext, socket: _socket.socket, packed: bytes) -> Connection:
    """Make the connection that `freeze` has packed, which is suspended until `activate`.

    Raises CannotThawError, and what pickle does: a class may be gone from the new code. The socket
    is the caller's to close then.
    """
    state: dict[str, Any] = pickle.loads(packed)
    number, machine = state["id"], state["protocol"]
    if number in server.registry.connections:
        raise CannotThawError(f"an id that is in use in the successor: {number}")
    socket.setblocking(False)
    connection = Connection(server, socket, state["remote"], lambda _: machine, number)
    connection.observe()
    connection.suspend()
    try:
        connection.restore(state["connection"])
        server.timeouts.restore(connection, state["timeouts"])
        obstacle = connection.migration_obstacle
    except BaseException:
        connection.forget()
        raise
    if obstacle:
        connection.forget()
        raise CannotThawError(obstacle)
    return connection
