"""Data for all clients of a process: a timer that sends the time to each connection.

gworker examples/from_workerman/broadcast.py
"""

import os
import time

from gworker import Timer, Worker

PERIOD = float(os.environ.get("PERIOD", "10"))

worker = Worker(os.environ.get("LISTEN", "text://127.0.0.1:2020"))


@worker.on_worker_start
def on_worker_start(worker: Worker) -> None:
    """Each process has connections and timers of its own."""
    Timer.add(PERIOD, tell_all, (worker,))


def tell_all(worker: Worker) -> None:
    """The manual's loop. `worker.broadcast(data)` encodes the message once for all."""
    for connection in worker.connections.values():
        connection.send(str(time.time()))
