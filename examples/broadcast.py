"""Push to everybody from a Timer, and leave out who cannot keep up until they have caught up.

    gworker examples/broadcast.py

Try it with `nc 127.0.0.1 2008` in several windows; stop one of them with Ctrl-Z for a while.
"""

import os
import random

from gworker import Connection, Timer, Worker

prices = Worker(os.environ.get("LISTEN", "text://127.0.0.1:2008"), name="prices")
behind: dict[Connection, int] = {}  # who cannot keep up: how much was left out


@prices.on_worker_start
def start(worker: Worker) -> None:
    Timer.add(float(os.environ.get("PERIOD", "1")), push)


def push() -> None:
    behind.update({connection: missed + 1 for connection, missed in behind.items()})
    prices.broadcast(" ".join(f"{random.uniform(90, 110):.2f}" for _ in range(200)), exclude=behind)


@prices.on_buffer_full  # more than `max_send_buffer_size` waits for this reader: stop adding to it
def fell_behind(connection: Connection) -> None:
    behind[connection] = 0


@prices.on_buffer_drain  # all of that is sent: go on, and say what was left out
def caught_up(connection: Connection) -> None:
    connection.send(f"missed {behind.pop(connection)}")


@prices.on_close
def left(connection: Connection) -> None:
    behind.pop(connection, None)
