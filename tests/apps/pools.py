"""Pools of processes of the user's own, of each kind, made at the first use and never closed."""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

from gworker import Worker

text = Worker("text://127.0.0.1:0", name="text")


def square(number, seconds=0.5):
    """Compute for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return number * number


def size(data):
    """The size of what has come."""
    return len(data)


def work_for(seconds):
    """Compute, and say that it is done."""
    square(1, seconds)
    with open("done", "w") as file:
        file.write(str(os.getpid()))


@cache
def pool(method):
    """A pool of multiprocessing."""
    return get_context(method).Pool(2)


@cache
def executor(method):
    """A pool of concurrent.futures."""
    return ProcessPoolExecutor(2, mp_context=get_context(method))


def map_with(kind, function, arguments):
    """Whichever of them `kind` names, as `pool-fork`."""
    name, _, method = kind.partition("-")
    return list((pool if name == "pool" else executor)(method).map(function, arguments))


def sleep_in_copy(seconds):
    """A process of multiprocessing whose event loop turns, while a pool of its parent has
    something to do."""
    process = get_context("fork").Process(target=time.sleep, args=(seconds,))
    process.start()
    return process.pid


@text.on_message
def obey(connection, line):
    name, *arguments = line.split()
    if name == "pid":
        connection.send(str(os.getpid()))
    elif name == "squares":
        connection.send(str(map_with(arguments[0], square, range(4))))
    elif name == "sizes":
        connection.send(str(map_with(arguments[0], size, [bytes(2_000_000)] * 4)))
    elif name == "begin":
        executor(arguments[0]).submit(work_for, float(arguments[1]))
        connection.send("begun")
    elif name == "copy":
        connection.send(str(sleep_in_copy(float(arguments[0]))))
