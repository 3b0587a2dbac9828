"""A TCP server: `nc 127.0.0.1 2347`.

gworker examples/from_workerman/simple_tcp.py
"""

import os

from gworker import Connection, Worker

tcp_worker = Worker(os.environ.get("LISTEN", "tcp://127.0.0.1:2347"), count=4)


@tcp_worker.on_message
def on_message(connection: Connection, data: bytes) -> None:
    """A tcp Worker gives what one read brought, which may be half a line or three."""
    connection.send(b"hello " + data)
