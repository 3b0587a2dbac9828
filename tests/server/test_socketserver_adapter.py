"""Handlers written for `socketserver`: one greenlet each, over a socket that waits without
blocking."""

from __future__ import annotations

import _socket
import socket
import socketserver
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.context import ServerContext
from gworker.connection.ping import PingTimer
from gworker.ipc.scoreboard import Column, Scoreboard
from gworker.server import socketserver_adapter as module
from gworker.server.socketserver_adapter import LegacyConnection, LegacyServer

REMOTE = ("192.0.2.1", 7)


class Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            if line == b"raise\n":
                raise LookupError("on purpose")
            self.wfile.write(line)


def until(condition: Callable[[], object]) -> None:
    with gevent.Timeout(5):
        while not condition():
            gevent.sleep(0.005)


class House:
    def __init__(self) -> None:
        board = Scoreboard(1)
        self.row = board.row(board.take())
        self.service = ServerContext(Worker(name="w"), Limits(), self.row, get_hub().loop)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.legacy = LegacyServer(self.listener, Echo)

    def connected(self) -> tuple[LegacyConnection, socket.socket]:
        near, far = _socket.socketpair()
        near.setblocking(False)
        made: list[LegacyConnection] = []

        def accept() -> None:
            made.append(LegacyConnection(self.service, self.legacy, near, REMOTE))
            made[0].open()

        get_hub().loop.run_callback(accept)
        until(lambda: made)
        end = socket.socket(fileno=far.detach())
        end.setblocking(False)
        return made[0], end


def heard(peer: socket.socket, size: int) -> bytes:
    data = b""

    def more() -> bool:
        nonlocal data
        try:
            data += peer.recv(1000)
        except BlockingIOError:
            return False
        return len(data) >= size

    until(more)
    return data


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.listener.close()


def test_a_handler_asks_its_server_what_socketserver_has(house: House) -> None:
    legacy = house.legacy
    assert legacy.server_address == house.listener.getsockname()[:2]
    assert (legacy.server_name, legacy.server_port) == legacy.server_address
    assert legacy.fileno() == house.listener.fileno()
    assert legacy.RequestHandlerClass is Echo


def test_bytes_are_counted_and_the_end_of_the_handler_is_the_end(house: House) -> None:
    connection, peer = house.connected()
    peer.send(b"one\n")
    assert heard(peer, 4) == b"one\n"
    assert (connection.bytes_read, connection.bytes_written) == (4, 4)
    assert house.service.registry.connections == {connection.id: connection}
    assert (connection.status, connection.remote_address) == ("established", "192.0.2.1:7")
    peer.close()
    until(lambda: connection.status == "closed")
    assert not house.service.registry.connections
    assert house.service.requests == 1


def test_pings_pass_it_over(house: House) -> None:
    registry, isolate = house.service.registry, house.service.isolate_errors
    _, peer = house.connected()
    pings = PingTimer(get_hub().loop, Limits(ping_interval=1.0), registry.all, isolate)
    for _ in range(pings.polls):
        pings.poll()
    peer.send(b"one\n")
    assert heard(peer, 4) == b"one\n"
    assert house.row[Column.EXCEPTIONS] == 0
    peer.close()
    until(lambda: not registry.connections)


def test_an_exception_costs_its_connection_only(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    connection, peer = house.connected()
    peer.send(b"raise\n")
    until(lambda: connection.status == "closed")
    assert house.row[Column.EXCEPTIONS] == 1
    assert caplog.messages[0].endswith("exception in Echo")
    peer.close()


def test_a_retiring_process_ends_a_silent_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    connection, peer = house.connected()
    peer.send(b"one\n")
    heard(peer, 4)
    assert not connection.retire(1012, patient=True)
    now[0] += module.SILENCE_SECONDS
    assert not connection.retire(1012, patient=True)
    assert connection.retire(1012, patient=False)
    until(lambda: connection.status == "closed")
    peer.close()


def test_one_that_is_destroyed_ends_its_handler(house: House) -> None:
    connection, peer = house.connected()
    connection.destroy()
    until(lambda: connection.status == "closed")
    peer.close()


def test_the_end_of_one_has_a_line_in_the_access_log(house: House) -> None:
    lines: list[Any] = []

    class Access:
        add = lines.append

        def let_go(self) -> None: ...

    house.service.access = Access()  # type: ignore[assignment]
    connection, peer = house.connected()
    peer.send(b"one\n")
    heard(peer, 4)
    peer.close()
    until(lambda: connection.status == "closed")
    (line,) = lines
    assert (line.protocol, line.sent, line.received, line.head) == ("socketserver", 4, 4, b"")


def test_in_a_copy_of_the_process_it_is_the_parents(house: House) -> None:
    connection, peer = house.connected()
    connection.let_go()
    assert (connection.status, house.service.registry.connections) == ("closed", {})
    peer.close()
