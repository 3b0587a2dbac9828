"""The service of the chaos trial: every kind of Worker, and answers that show whether a message was
lost.

A client numbers its messages. The answer is that number and how many messages its connection has
had so far, which the connection keeps when it moves to another process.
"""

import os
from typing import Any

from gworker import Timer, Worker
from gworker.http import Request

HOST = "127.0.0.1"
PORTS = dict(pair.split("=") for pair in os.environ["CHAOS_PORTS"].split(","))
COUNTS = dict(pair.split("=") for pair in os.environ["CHAOS_COUNTS"].split(","))


def count(name: str) -> int:
    return int(COUNTS.get(name, 1))


text = Worker(f"text://{HOST}:{PORTS['text']}", name="text", count=count("text"), handover=True)
ws = Worker(f"websocket://{HOST}:{PORTS['ws']}", name="ws", count=count("ws"), handover=True)
http = Worker(f"http://{HOST}:{PORTS['http']}", name="http", count=count("http"))
local = Worker(
    f"unix://{os.environ['CHAOS_SOCKET']}", name="local", protocol="text", count=count("local")
)
spread = Worker(
    f"text://{HOST}:{PORTS['spread']}", name="spread", count=count("spread"), reuse_port=True
)
ticker = Worker(name="ticker", count=count("ticker"))


@text.on_message
@ws.on_message
@local.on_message
@spread.on_message
def answer(connection: Any, number: str) -> None:
    seen = connection.context.seen = getattr(connection.context, "seen", 0) + 1
    connection.send(f"{number} {seen}")


@http.on_message
def reply(connection: Any, request: Request) -> None:
    seen = connection.context.seen = getattr(connection.context, "seen", 0) + 1
    connection.send(f"{request.path.strip('/')} {seen}")


@ticker.on_worker_start
def tick(worker: Worker) -> None:
    Timer.add(0.1, lambda: None)


@text.on_worker_exit
def left(worker: Worker, number: int, pid: int, reason: str) -> None:
    """A helper child for the trial to hit, at every end of a process."""


every = [text, ws, http, local, spread, ticker]
handlers = [worker for worker in every if worker.name in COUNTS]
