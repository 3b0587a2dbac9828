"""With the file `slow`, slow to load and to start; the file `broken` ends each process of `ticker`
as it starts."""

import os

from gevent.monkey import get_original

from gworker import Timer, Worker

web = Worker("http://127.0.0.1:0", count=2)
ticker = Worker()
hold_the_loop = get_original("time", "sleep") if os.path.exists("slow") else lambda seconds: None

hold_the_loop(1.2)


@web.on_message
def page(connection, request):
    connection.send("page")


@ticker.on_worker_start
def start(worker):
    hold_the_loop(2.2)
    if os.path.exists("broken"):
        os._exit(3)
    Timer.add(0.5, tick)


def tick():
    with open("ticks", "a") as file:
        file.write(".")
