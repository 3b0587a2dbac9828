"""Echo over a unix socket.

    gworker examples/unix_echo.py

Try it with `nc -U /tmp/echo.sock`.
"""

import os

from gworker import Connection, Worker

echo = Worker(os.environ.get("LISTEN", "unix:///tmp/echo.sock"), name="echo")


@echo.on_message
def answer(connection: Connection, data: bytes) -> None:
    """As over TCP; only `remote_ip` is empty."""
    connection.send(data)
