"""Push to all from a Timer, and leave out clients that cannot keep up until they have caught up.

    gworker examples/broadcast.py

Try it with `nc 127.0.0.1 2008` in several windows; stop one of them with Ctrl-Z for a while.
"""

import os
import random

from gworker import Connection, Timer, Worker

behind: set[Connection] = (
    set()
)  # clients that cannot keep up; context.missed: how much was left out
prices = Worker(
    os.environ.get("LISTEN", "text://127.0.0.1:2008"), name="prices", on_close=behind.discard
)


@prices.on_worker_start
def start(worker: Worker) -> None:
    Timer.add(float(os.environ.get("PERIOD", "1")), push)


def push() -> None:
    for connection in behind:
        connection.context.missed += 1
    prices.broadcast(" ".join(f"{random.uniform(90, 110):.2f}" for _ in range(200)), exclude=behind)


@prices.on_buffer_full  # more than `max_send_buffer_size` waits for this reader: stop adding to it
def fell_behind(connection: Connection) -> None:
    connection.context.missed = 0
    behind.add(connection)


@prices.on_buffer_drain  # all of that is sent: go on, and say what was left out
def caught_up(connection: Connection) -> None:
    behind.discard(connection)
    connection.send(f"missed {vars(connection.context).pop('missed')}")


@prices.on_takeover  # a reload has moved it into this process, with its context
def move_in(connection: Connection) -> None:
    if hasattr(connection.context, "missed"):
        behind.add(connection)
