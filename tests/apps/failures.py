"""Everything that may happen to a worker process, as the peer asks for it."""

import ctypes
import os
import subprocess
import time

from gworker import Worker

text = Worker("text://127.0.0.1:0")


@text.on_message
def answer(connection, line):
    word, _, rest = line.partition(" ")
    if word == "sleep":
        time.sleep(float(rest))
    elif word == "spin":
        spin_for_ever()
    elif word == "crunch":
        crunch_in_c()
    elif word == "doze":
        doze_in_c()
    elif word == "crash":
        crash_in_c()
    elif word == "eat":
        eat(int(rest))
    elif word == "orphan":
        # Its parent, the shell, ends at once.
        subprocess.run(["sh", "-c", "sh -c 'echo $$ > orphan; sleep 0.2; exit 3' &"], check=False)
    connection.send(str(os.getpid()))


def spin_for_ever():
    while True:
        pass


def crunch_in_c():
    sum(range(10**12))  # never comes back to the interpreter, so no Python handler of a signal runs


def doze_in_c():
    ctypes.CDLL(None).sleep(60)  # the same, but other threads may run


def crash_in_c():
    ctypes.string_at(0)


def eat(size):
    b"x" * size
