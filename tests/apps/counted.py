"""Workers of every kind that answer with their pid, and write down how many messages a process has
handled."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from gworker import Worker

handled: Counter[str] = Counter()


def answer(connection: Any, _message: Any) -> None:
    handled[connection.worker.name] += 1
    connection.send(str(os.getpid()))


def serve(connection: Any) -> None:
    for message in connection:
        answer(connection, message)


def write_down(worker: Worker) -> None:
    with open("counts", "a") as file:
        file.write(f"{worker.name} {os.getpid()} {handled[worker.name]}\n")


http = Worker("http://127.0.0.1:0", on_message=answer)
short = Worker("http://127.0.0.1:0", on_message=answer)
text = Worker("text://127.0.0.1:0", on_message=answer)
websocket = Worker("websocket://127.0.0.1:0", on_message=answer)
# These cannot move: their peers come back.
kept = Worker("http://127.0.0.1:0", on_message=answer, on_close=lambda connection: None)
handler = Worker("text://127.0.0.1:0", handler=serve)
udp = Worker("udp://127.0.0.1:0", on_message=answer)

for each in (http, short, text, websocket, kept, handler, udp):
    each.on_worker_stop = write_down
