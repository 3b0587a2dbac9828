"""Programs in which dialled connections and their servers share one event loop: a test decides what
happens when.

A scenario is a function `test_…` in the text of such a program. It must leave no descriptor behind.
"""

from __future__ import annotations

import subprocess
import sys

PRELUDE = r"""
import _socket, gc, os, select, socket as plain
import gevent
from gevent import get_hub

from gworker import ErrorCode, connect
from gworker.app import worker
from gworker.client.attempt import backoff
from gworker.connection.connection import Connection
from gworker.client.udp import close_all
from gworker.protocols import get
from gworker.ipc.scoreboard import Column, Scoreboard
from gworker.app.limits import Limits
from gworker.connection.context import ServerContext
from gworker.connection.stream import LARGE_READ_SIZE
from gworker.app.worker import Worker

def descriptors():
    return set(os.listdir("/proc/self/fd"))

board = Scoreboard(8)
row = board.row(board.take())
declared = Worker(name="w", on_message=lambda *_: wrong.append("the Worker's callback"))
wrong = []
get_hub().print_exception = lambda context, *error: wrong.append(error)
service = ServerContext(declared, Limits(), row, get_hub().loop)

class Running:
    pass

Running.service = service
worker.running.append((declared, Running))

def until(condition, seconds=10):
    with gevent.Timeout(seconds):
        while not condition():
            gevent.sleep(0.001)

class Server:
    "Plain, non-blocking sockets: a test decides when something happens."
    def __init__(self, backlog=5, port=0):
        self.socket = plain.socket()
        self.socket.setsockopt(plain.SOL_SOCKET, plain.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen(backlog)
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]
        self.url = f"text://127.0.0.1:{self.port}"

    def accept(self):
        until(lambda: select.select([self.socket], [], [], 0)[0])
        peer, _ = self.socket.accept()
        peer.settimeout(0)
        return peer

def heard(peer, size):
    data = b""
    def more():
        nonlocal data
        try:
            data += peer.recv(1 << 20)
        except BlockingIOError:
            pass
        return len(data) >= size
    until(more)
    return data

def story(url, **options):
    "A connection that tells what happens to it."
    told = []
    connection = connect(url, **{
        "on_connect": lambda c: told.append("connect"),
        "on_message": lambda c, m: told.append(m),
        "on_close": lambda c: told.append("close"),
        "on_error": lambda c, code, message: told.append((int(code), message)),
        "on_buffer_full": lambda c: told.append("full"),
        "on_buffer_drain": lambda c: told.append("drained"),
        **options})
    return connection, told

def black_hole():
    server = Server(backlog=0)
    server.fillers = []
    while True:
        filler = plain.socket()
        server.fillers.append(filler)
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", server.port))
        if not select.select([], [filler], [], 0.05)[1]:
            return server

def refused_url():
    holder = plain.socket()
    holder.bind(("127.0.0.1", 0))
    return holder, f"text://127.0.0.1:{holder.getsockname()[1]}"

def accept_websocket(server):
    from gworker.protocols.websocket.handshake import accept_of
    peer = server.accept()
    request = heard(peer, 100)
    while not request.endswith(b"\r\n\r\n"):
        request += heard(peer, 1)
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    peer.send(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
              + accept_of(key) + b"\r\n\r\n")
    return peer
"""

EPILOGUE = r"""
for name, test in list(globals().items()):
    if name.startswith("test_"):
        gc.collect()
        before = descriptors()
        test()
        for one in (*service.connections.values(), *service.dialled.values()):
            one.on_close = None
            one.destroy()
        until(lambda: not service.lingerer.sockets or gevent.sleep(0.05))
        gevent.sleep(0.01)
        gc.collect()
        left = len(descriptors()) - len(before)
        assert left <= 0, f"{name} leaves {left} descriptors"
        assert not wrong, wrong
        print(name)
"""


def names(scenarios: str) -> list[str]:
    """Of the scenarios in a text."""
    return [
        line[4:].partition("(")[0]
        for line in scenarios.splitlines()
        if line.startswith("def test_")
    ]


def run(scenarios: str) -> subprocess.CompletedProcess[str]:
    """Run all of them, in their order: each that has passed is named on stdout."""
    program = PRELUDE + scenarios + EPILOGUE
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
