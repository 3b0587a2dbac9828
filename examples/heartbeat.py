"""A Timer closes connections that have been silent for too long.

    gworker examples/heartbeat.py

Try it with `nc 127.0.0.1 2003`, and wait. (Where silence is all that matters, the option
`--idle-timeout 30` does the same. This way you decide what counts as a sign of life.)
"""

import os
from time import monotonic

from gworker import Connection, Timer, Worker

SILENCE = float(os.environ.get("SILENCE", "30"))  # seconds

devices = Worker(os.environ.get("LISTEN", "text://127.0.0.1:2003"), name="devices")


@devices.on_worker_start
def start(worker: Worker) -> None:
    """Look around ten times within the time that is allowed."""
    Timer.add(SILENCE / 10, close_silent)


@devices.on_message
def receive(connection: Connection, line: str) -> None:
    """Every message is a sign of life."""
    connection.context.last_message = monotonic()
    connection.send("pong" if line == "ping" else "ok")


def close_silent() -> None:
    """Close those whose last message is too old; a client that never sent one counts from the first
    look."""
    for connection in list(devices.connections.values()):
        last = vars(connection.context).setdefault("last_message", monotonic())
        if monotonic() - last > SILENCE:
            connection.close("too quiet")
