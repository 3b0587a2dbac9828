"""A process that replaces itself after MAX_REQUEST requests: the manual's cure for leaks.

    gworker examples/from_workerman/stop_all.py

`gworker --max-requests 1000` does the same without any code, and adds jitter.
"""

import os

from gworker import Connection, Request, Worker

MAX_REQUEST = int(os.environ.get("MAX_REQUEST", "1000"))

http_worker = Worker(os.environ.get("LISTEN", "http://127.0.0.1:2023"))
state = {"requests": 0}


@http_worker.on_message
def on_message(connection: Connection, request: Request) -> None:
    """The successor is ready before this process leaves, so no client notices."""
    connection.send(f"hello http {os.getpid()}")
    state["requests"] += 1
    if state["requests"] == MAX_REQUEST:
        Worker.stop_all()
