"""Slow to load and slow to start; the file `broken` ends each process of `ticker` as it starts."""

import os
import time

from gworker import Timer, Worker

web = Worker("http://127.0.0.1:0", count=2)
ticker = Worker()

end = time.monotonic() + 1.5
while time.monotonic() < end:  # holds the processor: no event loop could turn
    pass


@web.on_message
def page(connection, request):
    connection.send("page")


@ticker.on_worker_start
def start(worker):
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        pass
    if os.path.exists("broken"):
        os._exit(3)
    Timer.add(0.5, tick)


def tick():
    with open("ticks", "a") as file:
        file.write(".")
