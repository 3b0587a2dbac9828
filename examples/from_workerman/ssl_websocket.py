"""A wss server: Workerman's `ssl` context options are the Worker's `tls`.

CERT=server.pem KEY=server.key gworker examples/from_workerman/ssl_websocket.py
"""

import os

from gworker import Connection, Worker

worker = Worker(
    os.environ.get("LISTEN", "websocket://127.0.0.1:4431"),
    transport="ssl",
    tls={"certfile": os.environ["CERT"], "keyfile": os.environ["KEY"]},
)


@worker.on_message
def on_message(connection: Connection, data: str) -> None:
    connection.send("ok " + data)
