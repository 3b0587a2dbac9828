"""Workers of every kind, for what the commands show of them."""

import os
import time

from gworker import Timer, Worker

text = Worker("text://127.0.0.1:0", count=2)
web = Worker("http://127.0.0.1:0")
box = Worker("text://DIRECTORY/x.sock", transport="unix")
drum = Worker()


@text.on_message
def answer(connection, line):
    if line == "spin":
        end = time.monotonic() + 600
        while time.monotonic() < end and not os.path.exists("enough"):
            pass
    if line == "raise":
        raise ValueError("as asked")
    connection.send(str(os.getpid()))


box.on_message = answer
web.on_message = lambda connection, request: connection.send("page")


@drum.on_worker_start
def begin(worker):
    Timer.add(60, print)
