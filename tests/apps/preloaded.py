"""What is loaded once for all processes (--preload), and what each of them has of its own."""

import os
import random
import socket
import threading
import time

import gevent
from recording import record

from gworker import Timer, Worker

LOADED_BY = os.getpid()
TABLE = {number: str(number) * 10 for number in range(100_000)}
ticks = []
runs = []

record("loaded", str(LOADED_BY))

if "OPENS" in os.environ:
    opened = socket.create_connection(("127.0.0.1", int(os.environ["OPENS"])))
if "FAILS" in os.environ and os.path.exists(os.environ["FAILS"]):
    raise RuntimeError("not today")


def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.01)


gevent.spawn(tick)
threading.Thread(target=tick, daemon=True).start()


def run():
    runs.append(1)


worker = Worker("text://127.0.0.1:0", name="text", count=3)
if "TLS" in os.environ:
    pem, key = os.environ["TLS"].split(",")
    options = {"transport": "ssl", "tls": {"certfile": pem, "keyfile": key}}
    other = Worker("text://127.0.0.1:0", name="other", **options)
else:
    other = Worker("text://127.0.0.1:0", name="other")
handlers = [worker, other]


@worker.on_worker_start
def start(_worker):
    record("started", f"{os.getpid()} {len(runs)}")
    Timer.add(0.01, run)


@worker.on_message
@other.on_message
def answer(connection, line):
    if line == "fork":
        pid = os.fork()
        if pid == 0:
            record("copy", str(os.getpid()))
            os._exit(0)
        os.waitpid(pid, 0)
        connection.send(str(pid))
    elif line == "hang":
        while True:
            pass
    elif line == "sleep":
        time.sleep(0.01)
        connection.send("slept")
    else:
        values = {
            "loaded": LOADED_BY,
            "pid": os.getpid(),
            "parent": os.getppid(),
            "ticks": len(ticks),
            "runs": len(runs),
            "random": random.random(),
            "sum": sum(map(len, TABLE.values())),
        }
        connection.send(str(values[line]))
