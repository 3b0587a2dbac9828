"""Accepted sockets during their TLS handshake."""

from __future__ import annotations

import _socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from gevent import get_hub
from gevent import sleep as gevent_sleep
from tls_pair import opened, server

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.ipc.scoreboard import Scoreboard
from gworker.process import graceful_shutdown
from gworker.process.graceful_shutdown import GracefulShutdown
from gworker.protocols import get
from gworker.server.tls_accept import TlsAccept
from gworker.tls.contexts import client_context
from gworker.tls.handshake import Handshake
from gworker.tls.options import check_client
from gworker.tls.socket import TlsSocket


def service(**limits: Any) -> ServerContext:
    worker = Worker("text://127.0.0.1:0", name="w")
    worker.on_message = lambda connection, line: connection.send(line)
    board = Scoreboard(1)
    return ServerContext(worker, Limits(**limits), board.row(board.take()), get_hub().loop)


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        gevent_sleep(0.01)
    raise AssertionError("not in time")


REMOTE = ("192.0.2.1", 1)


def accept(owner: ServerContext, context: ssl.SSLContext) -> TlsSocket:
    """An accepted socket in `owner`; returns the client's end, which has said nothing yet."""
    ours, theirs = _socket.socketpair()

    def take(socket: _socket.socket, remote: Any) -> None:
        Connection(owner, socket, remote, get("text")).open()

    TlsAccept(owner, lambda: context, take)(ours, REMOTE)
    client = TlsSocket(theirs, client_context(check_client({"verify": False})), server_side=False)
    opened.append(client)
    return client


def test_an_accepted_socket_becomes_a_connection_and_counts_all_the_time(
    files: dict[str, str],
) -> None:
    owner = service(max_connections_per_address=1)
    client = accept(owner, server(files))
    assert len(owner.registry.handshaking) == 1
    assert not owner.registry.connections
    assert owner.registry.per_address.is_full(REMOTE)
    told: list[str] = []
    Handshake(get_hub().loop, client, lambda: told.append("done"), told.append).start(2)
    until(lambda: owner.registry.connections)
    assert told == ["done"]
    assert not owner.registry.handshaking
    assert list(owner.registry.per_address.counts.values()) == [1]
    assert not owner.timeouts.deadlines.due
    (connection,) = owner.registry.connections.values()
    assert (connection.transport, connection.tls.version, connection.migration_obstacle) == (
        "ssl",
        "TLSv1.3",
        "TLS",
    )
    client.send(b"line\n")
    until(lambda: connection.bytes_written)
    assert client.recv(65536) == b"line\n"
    connection.destroy()
    assert not owner.registry.per_address.counts


def test_a_handshake_that_takes_too_long_is_cut(
    files: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    owner = service(handshake_timeout=0.05)
    freed: list[int] = []
    owner.registry.on_closed.append(lambda: freed.append(1))
    with caplog.at_level("INFO"):
        client = accept(owner, server(files))
        until(lambda: not owner.registry.handshaking)
    assert [record.getMessage() for record in caplog.records] == [
        "TLS handshake with 192.0.2.1:1: not finished in time"
    ]
    assert freed == [1]
    assert _socket.socket.recv(client, 100) == b""


def test_a_process_that_ends_waits_a_little_for_handshakes(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graceful_shutdown, "STOP_SILENCE", 0.3)
    owner, ended = service(), []
    client = accept(owner, server(files))
    GracefulShutdown(owner, 1001, lambda: ended.append(1)).begin(10, None)
    gevent_sleep(0.15)
    assert owner.registry.handshaking
    assert not ended
    until(lambda: not owner.registry.handshaking, 5)
    assert _socket.socket.recv(client, 100) == b""
    client.close()
    until(lambda: ended)


def test_a_process_in_a_hurry_waits_for_no_handshake(files: dict[str, str]) -> None:
    owner = service()
    client = accept(owner, server(files))
    GracefulShutdown(owner, 1001, lambda: None).quit()
    assert not owner.registry.handshaking
    assert _socket.socket.recv(client, 100) == b""
