"""Answers that take their time, and what a child of a worker process inherits."""

import os
import subprocess
import time

from gworker import Worker

text = Worker("text://127.0.0.1:0", count=2)
other = Worker("text://127.0.0.1:0")


@text.on_message
def answer(connection, line):
    word, _, rest = line.partition(" ")
    if word == "sleep":
        time.sleep(float(rest))
        connection.send("slept")
    elif word == "pid":
        connection.send(str(os.getpid()))
    elif word == "child":
        shown = subprocess.check_output(["cat", "/proc/self/status"], text=True)
        connection.send(next(line for line in shown.splitlines() if line.startswith("SigIgn")))


other.on_message = answer


@text.on_worker_stop
def stopped(worker):
    with open("stopped", "a") as file:
        file.write("x")
