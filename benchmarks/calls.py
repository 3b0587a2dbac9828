"""Python calls of one process for one message: traced, not timed.

    python benchmarks/calls.py [--list]

Counts what runs in a connection from the moment its socket is readable until the answer is with the
kernel, the user's own handler left out. The figures do not depend on the machine.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import gevent
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.ipc.scoreboard import Scoreboard
from gworker.protocols import get

GET = b"GET /hello?page=%d HTTP/1.1\r\nHost: localhost\r\n\r\n"


def answer(connection: Any, request: Any) -> str:
    return "hello"


def echo(connection: Any, message: Any) -> None:
    connection.send(message)


CASES: dict[str, tuple[str, Callable[[Any, Any], object], Callable[[int], bytes]]] = {
    "tcp": ("tcp", echo, b"message %d".__mod__),
    "text": ("text", echo, b"message %d\n".__mod__),
    "http": ("http", answer, GET.__mod__),
}


def calls(name: str) -> list[str]:
    """The functions that one message of the case `name` calls, in their order."""
    protocol, handler, message = CASES[name]
    board = Scoreboard(1)
    worker = Worker(f"{protocol}://127.0.0.1:1", name=name, on_message=handler)
    context = ServerContext(worker, Limits(), board.row(board.take()), get_hub().loop)
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    connection = Connection(context, near, None, get(protocol))
    connection.open()
    seen: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and "/gworker/" in code.co_filename:
            seen.append(f"{code.co_filename.rpartition('/gworker/')[2]}:{code.co_qualname}")

    for number in range(5):  # the first ones find caches empty
        seen.clear()
        far.send(message(number))
        sys.setprofile(note)
        gevent.sleep(0.01)
        sys.setprofile(None)
        assert far.recv(65536)
    connection.destroy()
    return [each for each in seen if not each.endswith("_write_counters")]


if __name__ == "__main__":
    for case in CASES:
        found = calls(case)
        print(f"{case:6} {len(found)}")
        if "--list" in sys.argv:
            print(*(f"       {each}" for each in found), sep="\n")
