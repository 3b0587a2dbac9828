"""A unix socket with the text protocol: `transport` and `protocol` set by hand.

gworker examples/from_workerman/unix_socket.py
"""

import os

from gworker import Connection, Worker

worker = Worker(os.environ.get("LISTEN", "unix:///tmp/my.sock"), protocol="text")


@worker.on_message
def on_message(connection: Connection, line: str) -> None:
    """One call for each line."""
    connection.send("hello " + line)
