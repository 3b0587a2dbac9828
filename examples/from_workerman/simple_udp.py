"""A UDP server: one call for each datagram.

gworker examples/from_workerman/simple_udp.py
"""

import os

from gworker import Connection, Worker

udp_worker = Worker(os.environ.get("LISTEN", "udp://127.0.0.1:9090"))


@udp_worker.on_message
def on_message(connection: Connection, data: bytes) -> None:
    """`send` answers to where the datagram came from."""
    connection.send(b"get: " + data)
