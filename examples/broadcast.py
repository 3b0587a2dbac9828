"""Push to everybody from a Timer, and leave out who cannot keep up until they have caught up.

    gworker examples/broadcast.py

Try it with `nc 127.0.0.1 2008` in several windows; stop one of them with Ctrl-Z for a while.
"""

import os
import random

from gworker import Connection, Timer, Worker

prices = Worker(os.environ.get("LISTEN", "text://127.0.0.1:2008"), name="prices")


@prices.on_worker_start
def start(worker: Worker) -> None:
    Timer.add(float(os.environ.get("PERIOD", "1")), push)


def push() -> None:
    """To all connections of this process. `send` never blocks: a slow reader holds up nobody."""
    line = " ".join(f"{random.uniform(90, 110):.2f}" for _ in range(200))
    for connection in list(prices.connections.values()):
        if hasattr(connection.context, "missed"):
            connection.context.missed += 1
        else:
            connection.send(line)


@prices.on_buffer_full
def fell_behind(connection: Connection) -> None:
    """More than `max_send_buffer_size` waits for this reader: stop adding to it."""
    connection.context.missed = 0


@prices.on_buffer_drain
def caught_up(connection: Connection) -> None:
    """All that waited is sent: go on, and say what was left out."""
    connection.send(f"missed {vars(connection.context).pop('missed')}")
