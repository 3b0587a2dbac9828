"""What is packed of a connection, and what becomes of it in another process."""

from __future__ import annotations

import _socket
import os
from collections.abc import Iterator

import gevent
import pytest
from gevent import get_hub
from websocket_bytes import handshake

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.config.trusted_proxies import Trust
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.handover.state import freeze, thaw
from gworker.http import Request
from gworker.ipc.scoreboard import Scoreboard
from gworker.protocols.websocket.server import WebSocketProtocol

PROXY = ("192.0.2.1", 5)


def context(trusted: str) -> ServerContext:
    board = Scoreboard(1)
    made = ServerContext(Worker("websocket://127.0.0.1:0"), Limits(), board.row(0), get_hub().loop)
    made.forwarders = Trust(trusted)
    return made


@pytest.fixture
def opened() -> Iterator[Connection]:
    """A WebSocket behind a proxy that is trusted."""
    here, there = _socket.socketpair()
    here.setblocking(False)
    connection = Connection(context(PROXY[0]), here, PROXY, WebSocketProtocol)
    connection.open()
    there.send(handshake(X_Forwarded_For="198.51.100.7"))
    with gevent.Timeout(5):
        while connection.protocol_machine.opening is not None:
            gevent.sleep(0.001)
    yield connection
    connection.destroy()
    there.close()


def moved(connection: Connection, server: ServerContext) -> Connection:
    connection.suspend()
    packed = freeze(connection)
    copy = os.dup(connection.fileno())
    connection.resume()
    return thaw(server, _socket.socket(fileno=copy), packed)


@pytest.mark.parametrize("trusted", [PROXY[0], "", "*"])
def test_the_client_of_a_handshake_stays_the_one_that_the_proxy_has_named(
    opened: Connection, trusted: str
) -> None:
    there = moved(opened, context(trusted))
    try:
        assert (there.remote_ip, there.request.client_ip) == (PROXY[0], "198.51.100.7")
    finally:
        there.forget()


def test_a_handshake_that_has_moved_keeps_no_address_of_its_own(opened: Connection) -> None:
    there = moved(opened, context(PROXY[0]))
    try:
        request: Request = there.request
        assert request._origin is there.io
    finally:
        there.forget()
