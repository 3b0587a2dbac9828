"""A client that stays connected: a Worker without a socket dials a server, and dials again when
that is gone.

    SERVER=text://127.0.0.1:2001 gworker examples/client.py

Start `gworker examples/text_shout.py` beside it, stop it, start it again.
"""

import os

import gworker
from gworker import ClientConnection, Timer, Worker

sensor = Worker(name="sensor")


@sensor.on_worker_start
def start(worker: Worker) -> None:
    """Returns at once; callbacks may be assigned, or given to `connect`."""
    server = gworker.connect(os.environ.get("SERVER", "text://127.0.0.1:2001"), timeout=3)
    server.on_message = lambda server, line: print("server:", line, flush=True)
    server.on_error = lambda server, code, message: print(message, flush=True)
    server.on_close = come_back
    server.send("hello")  # waits until the connection is open
    Timer.add(float(os.environ.get("PERIOD", "5")), report, [server])


def report(server: ClientConnection) -> None:
    """While it is away, readings are better dropped than kept."""
    if server.status == "established":
        server.send(f"load {os.getloadavg()[0]:.2f}")


def come_back(server: ClientConnection) -> None:
    """Called once per attempt, failed or not: after 0.5 s, then 1 s, 2 s, … half a minute, each a
    little at random."""
    server.reconnect(after=0.5, factor=2, most=30, jitter=0.2)
