"""One Worker serves, the other one crashes again and again."""

import os

from gworker import Timer, Worker

good = Worker("text://127.0.0.1:0", on_message=lambda connection, line: connection.send(line))
bad = Worker()


@bad.on_worker_start
def soon(worker):
    Timer.add(0.05, os._exit, (3,), persistent=False)
