"""AsyncTcpConnection: each client gets a connection to another server, and what comes from there.

UPSTREAM=tcp://www.example.org:80 gworker examples/from_workerman/async_tcp_connection.py
"""

import os

import gworker
from gworker import ClientConnection, Connection, Worker

UPSTREAM = os.environ.get("UPSTREAM", "tcp://127.0.0.1:80")

task = Worker(os.environ.get("LISTEN", "tcp://127.0.0.1:2021"))


@task.on_connect
def on_connect(client: Connection) -> None:
    """`new AsyncTcpConnection` and its `connect()` are one call; data that is sent before it is
    open waits."""

    def on_message(_upstream: ClientConnection, data: bytes) -> None:
        client.send(data)

    def on_close(_upstream: ClientConnection) -> None:
        client.close()

    def on_error(_upstream: ClientConnection, code: int, message: str) -> None:
        print(f"error code:{code} msg:{message}", flush=True)

    client.context.upstream = gworker.connect(
        UPSTREAM, on_message=on_message, on_close=on_close, on_error=on_error
    )


@task.on_message
def on_message(client: Connection, data: bytes) -> None:
    client.context.upstream.send(data)


@task.on_close
def on_close(client: Connection) -> None:
    client.context.upstream.close()
