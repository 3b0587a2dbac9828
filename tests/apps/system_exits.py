"""What would end a program, raised where a worker process runs user code. Notes go to the file
`notes`."""

import os
import sys

import gevent

from gworker import Timer, Worker

text = Worker("text://127.0.0.1:0", name="text", handover=False)


def note(word):
    """Write down what was called."""
    with open("notes", "a") as file:
        file.write(f"{os.getpid()} {word}\n")


def leave(error=SystemExit):
    """End the program."""
    raise error("from user code")


def throw():
    """Into the main greenlet, as gevent does it by itself."""
    gevent.get_hub().parent.throw(SystemExit)


WAYS = {
    "pid": lambda: None,
    "greenlet": lambda: gevent.spawn(sys.exit, 3),
    "interrupt": lambda: gevent.spawn(leave, KeyboardInterrupt),
    "callback": lambda: gevent.get_hub().loop.run_callback(leave),
    "main": lambda: gevent.spawn(throw),
    "handler": leave,
    "timer": lambda: Timer.add(0, leave, persistent=False),
}


@text.on_message
def obey(connection, line):
    WAYS[line]()
    connection.send(str(os.getpid()))


@text.on_close
def closed(connection):
    note("on_close")


@text.on_worker_start
def start(worker):
    if os.path.exists("fail"):
        gevent.spawn(sys.exit, "no way").join()


@text.on_worker_stop
def stop(worker):
    note("on_worker_stop")
