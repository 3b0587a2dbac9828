"""Echo over TCP: one function is a server.

    gworker examples/echo.py:echo --bind tcp://127.0.0.1:2000 -w 2

Try it with `nc 127.0.0.1 2000`.
"""

from gworker import Connection


def echo(connection: Connection, data: bytes) -> None:
    """Send back whatever comes, as it comes."""
    connection.send(data)
