"""The heartbeat of Workerman's manual, line by line: close what was silent for HEARTBEAT_TIME
seconds.

    gworker examples/from_workerman/heartbeat.py

The Worker argument `idle_timeout=55` does the same without any code.
"""

import os
import time

from gworker import Connection, Timer, Worker

HEARTBEAT_TIME = float(os.environ.get("HEARTBEAT_TIME", "55"))

worker = Worker(os.environ.get("LISTEN", "text://127.0.0.1:1234"))


@worker.on_message
def on_message(connection: Connection, line: str) -> None:
    """Note the time of the last message. The manual sets it on the connection; here that is
    `context`."""
    connection.context.last_message_time = time.time()
    connection.send("received " + line)


@worker.on_worker_start
def on_worker_start(worker: Worker) -> None:
    """Look once a second."""
    Timer.add(1, check, (worker,))


def check(worker: Worker) -> None:
    """Closing inside the loop is fine: `connections` is iterated over a snapshot."""
    now = time.time()
    for connection in worker.connections.values():
        if not hasattr(connection.context, "last_message_time"):
            connection.context.last_message_time = now
        elif now - connection.context.last_message_time > HEARTBEAT_TIME:
            connection.close()
