"""Loops over `worker.connections`, in which connections are closed and opened."""

from __future__ import annotations

import _socket
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.open_connections import OpenConnections
from gworker.ipc.scoreboard import Scoreboard
from gworker.protocols import get

Loop = Callable[[OpenConnections], Iterable[Any]]

LOOPS: dict[str, Loop] = {
    "values": lambda connections: connections.values(),
    "items": lambda connections: (connection for _, connection in connections.items()),
    "keys": lambda connections: (connections[number] for number in connections.keys()),  # noqa: SIM118
    "the dict itself": lambda connections: (connections[number] for number in connections),
    "reversed": lambda connections: (connections[number] for number in reversed(connections)),
}


@pytest.fixture
def service() -> Iterator[ServerContext]:
    board = Scoreboard(1)
    worker = Worker("tcp://127.0.0.1:1", name="loops")
    one = ServerContext(worker, Limits(), board.row(board.take()), get_hub().loop)
    yield one
    for connection in one.registry.connections.values():
        connection.destroy()


@pytest.fixture
def enter(service: ServerContext) -> Iterator[Callable[[str], Connection]]:
    ends: list[socket.socket] = []

    def make(protocol: str) -> Connection:
        near, far = socket.socketpair()
        near.setblocking(False)
        ends.append(far)
        return Connection(
            service, _socket.socket(fileno=near.detach()), ("127.0.0.1", 1), get(protocol)
        )

    yield make
    for far in ends:
        far.close()


@pytest.mark.parametrize("protocol", ["tcp", "text", "websocket"])
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_all_may_be_closed_in_a_loop(
    service: ServerContext, enter: Callable[[str], Connection], loop: Loop, protocol: str
) -> None:
    made = [enter(protocol) for _ in range(5)]
    closed = []
    for connection in loop(service.registry.connections):
        connection.close()
        closed.append(connection)
    assert sorted(each.id for each in closed) == sorted(each.id for each in made)
    assert not service.registry.connections


def test_one_that_enters_meanwhile_is_not_in_the_loop(
    service: ServerContext, enter: Callable[[str], Connection]
) -> None:
    first = enter("tcp")
    for connection in service.registry.connections.values():
        assert connection is first
        enter("tcp")
    assert len(service.registry.connections) == 2


def test_it_is_a_dict_in_everything_else(
    service: ServerContext, enter: Callable[[str], Connection]
) -> None:
    one = enter("tcp")
    connections = service.registry.connections
    assert isinstance(connections, dict)
    assert connections[one.id] is connections.get(one.id) is one
    assert one.id in connections
    assert connections.get(0) is None
    assert dict(connections) == {one.id: one} == connections
    assert list(connections) == sorted(connections) == [one.id]
    assert connections.keys() & {one.id, 0} == {one.id}
