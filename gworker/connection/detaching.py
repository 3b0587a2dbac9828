"""`connection.detach()`: the socket in the hands of the user, who speaks a protocol of his own."""

from __future__ import annotations

from typing import Any

from gworker.connection.dispatcher import AnyConnection
from gworker.connection.lent_socket import LentSocket
from gworker.connection.state import CLOSING, DETACHED, ESTABLISHED

OPERATIONS = 32
"""Reads and writes after which other connections have their turn: with a peer that floods it, the
user's code never waits."""


def detach(connection: AnyConnection) -> LentSocket:
    """See `Connection.detach`."""
    machine = connection.protocol_machine
    if machine.is_sending:
        raise RuntimeError("the answer is still being sent")
    if not (machine.lockstep or machine.keeps_alive):
        raise RuntimeError(
            f"{connection!r} decodes ahead of its handler: detach() needs HTTP, or Worker(..., "
            "lockstep=True)"
        )
    if machine.waiting_for() == "body":
        raise RuntimeError("a request is still arriving")
    if connection.lifecycle is ESTABLISHED:
        connection.drain()
    if connection.lifecycle is not ESTABLISHED:
        raise ConnectionResetError(f"{connection!r} has ended, or moves")
    ahead = machine.take_unparsed()
    machine.close()  # nothing is answered here any more
    connection.io.read_into(None)
    connection.server_context.timeouts.forget(connection)
    connection.lifecycle = DETACHED
    socket = connection.io.lend(ahead)
    user = _User(connection)
    socket.count = user.count
    if connection.observer is not None:
        connection.observer.detached()
        socket.sending = user.sending
    socket.when_closed(user.closed)
    return socket


class _User:
    # What the socket tells. It does not know the socket, which is freed when its user drops it.
    def __init__(self, connection: AnyConnection) -> None:
        self._connection = connection
        self._operations = 0
        self._has_sent = False

    def count(self, read: int, written: int) -> None:
        self._connection.io.count(read, written)
        self._operations += 1
        if self._operations >= OPERATIONS:
            self._operations = 0
            self._connection.server_context.run_queue.wait()

    def sending(self, data: Any) -> None:
        observer = self._connection.observer
        if not self._has_sent and observer is not None:
            observer.sending(bytes(data))
        self._has_sent = True

    def closed(self) -> None:
        # Anywhere, as garbage is collected.
        self._connection.server_context.loop.run_callback(self._end)

    def _end(self) -> None:
        connection = self._connection
        if connection.lifecycle is DETACHED:
            connection.server_context.registry.extra_descriptors -= 1
            connection.lifecycle = CLOSING
            connection.end()
