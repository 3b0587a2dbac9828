"""A WebSocket server; its page needs `new WebSocket("ws://127.0.0.1:2000")`.

gworker examples/from_workerman/simple_websocket.py
"""

import os

from gworker import Connection, Request, Worker

ws_worker = Worker(os.environ.get("LISTEN", "websocket://127.0.0.1:2000"), count=4)


@ws_worker.on_websocket_connect
def on_websocket_connect(connection: Connection, request: Request) -> None:
    """Refuse pages of other sites, as the manual's onWebSocketConnect does."""
    if request.headers.get("origin", "http://127.0.0.1") != "http://127.0.0.1":
        connection.close()


@ws_worker.on_message
def on_message(connection: Connection, data: str) -> None:
    """A str goes out as a text frame, bytes as a binary one."""
    connection.send("hello " + data)
