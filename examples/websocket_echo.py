"""Echo over WebSocket: text comes back as text, binary as binary.

    gworker examples/websocket_echo.py

Try it with `python -m websockets ws://127.0.0.1:9502/`.
"""

import os

from gworker import Connection, Request, Response, Worker

echo = Worker(os.environ.get("LISTEN", "websocket://127.0.0.1:9502"), name="echo")


@echo.on_websocket_connect
def admit(connection: Connection, request: Request) -> None:
    """The last moment to refuse, or to add fields to the handshake's answer."""
    if request.path != "/":
        connection.close(Response("There is nothing here.\n", 404))
    connection.headers = {"X-Served-By": f"{connection.worker.name}#{connection.worker.id}"}


@echo.on_message
def answer(connection: Connection, data: str | bytes) -> None:
    """`data` is str for a text frame, bytes for a binary one; `send` makes the same distinction."""
    connection.send(data)
