"""Dialled connections and their servers in one event loop: a scenario decides what happens when.

Imported by programs under `tests/scenarios` only. A scenario must leave no descriptor behind.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import socket
from collections.abc import Callable
from typing import Any

import gevent
import scenario_process
from gevent import get_hub

from gworker import connect
from gworker.app import worker
from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.context import ServerContext
from gworker.http.upgrade import accept_of
from gworker.ipc.scoreboard import Scoreboard


def descriptors() -> set[str]:
    """Those that are open, but for the epoll set, which the first connection makes."""
    return set(os.listdir("/proc/self/fd")) - {str(service.poller.fileno())}


board = Scoreboard(8)
row = board.row(board.take())
wrong: list[Any] = []
"""What has happened and must not: exceptions in the hub, messages for the Worker."""

declared = Worker(name="w", on_message=lambda *_: wrong.append("the Worker's callback"))
get_hub().print_exception = lambda context, *error: wrong.append(error)
service = ServerContext(declared, Limits(), row, get_hub().loop)


class Running:
    """The process in which `declared` runs, as far as anything asks for it."""

    service = service


worker.running.append((declared, Running))


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Let others run until `condition()` is true."""
    with gevent.Timeout(seconds):
        while not condition():
            gevent.sleep(0.001)


class Server:
    """Plain, non-blocking sockets: a scenario decides when something happens."""

    def __init__(self, backlog: int = 5, port: int = 0) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen(backlog)
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]
        self.url = f"text://127.0.0.1:{self.port}"
        self.fillers: list[socket.socket] = []

    def accept(self) -> socket.socket:
        until(lambda: select.select([self.socket], [], [], 0)[0])
        peer, _ = self.socket.accept()
        peer.settimeout(0)
        return peer


def heard(peer: socket.socket, size: int) -> bytes:
    """What has come from `peer`, once it is `size` bytes or more."""
    data = b""

    def more() -> bool:
        nonlocal data
        with contextlib.suppress(BlockingIOError):
            data += peer.recv(1 << 20)
        return len(data) >= size

    until(more)
    return data


def story(url: str, **options: Any) -> tuple[Any, list[Any]]:
    """A dialled connection, and the list to which its callbacks add what happens to it."""
    told: list[Any] = []
    connection = connect(
        url,
        **{
            "on_connect": lambda c: told.append("connect"),
            "on_message": lambda c, m: told.append(m),
            "on_close": lambda c: told.append("close"),
            "on_error": lambda c, code, message: told.append((int(code), message)),
            "on_buffer_full": lambda c: told.append("full"),
            "on_buffer_drain": lambda c: told.append("drained"),
            **options,
        },
    )
    return connection, told


def black_hole() -> Server:
    """A server whose backlog is full: nothing answers those that connect."""
    server = Server(backlog=0)
    while True:
        filler = socket.socket()
        server.fillers.append(filler)
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", server.port))
        if not select.select([], [filler], [], 0.05)[1]:
            return server


def refused_url() -> tuple[socket.socket, str]:
    """The URL of a port at which nothing listens, and the socket that keeps it so."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    return holder, f"text://127.0.0.1:{holder.getsockname()[1]}"


def accept_websocket(server: Server) -> socket.socket:
    """Accept a connection and its WebSocket handshake."""
    peer = server.accept()
    request = heard(peer, 100)
    while not request.endswith(b"\r\n\r\n"):
        request += heard(peer, 1)
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    peer.send(
        b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept_of(key)
        + b"\r\n\r\n"
    )
    return peer


further: list[ServerContext] = []


def another_service(*arguments: Any) -> ServerContext:
    """A ServerContext beside `service`, as of another process. It is released afterwards."""
    further.append(ServerContext(*arguments))
    return further[-1]


def leave_nothing(test: Callable[[], None]) -> None:
    """Run a scenario and end its connections; it has left no descriptor, and nothing went wrong."""
    gc.collect()
    before = descriptors()
    try:
        test()
    finally:
        for one in (*service.registry.connections.values(), *service.registry.dialled.values()):
            one.on_close = None
            one.destroy()
        until(lambda: not service.lingerer.sockets or gevent.sleep(0.05))
        gevent.sleep(0.01)
        while further:
            further.pop().poller.let_go()
    gc.collect()
    left = len(descriptors()) - len(before)
    assert left <= 0, f"{left} descriptors are left"
    assert not wrong, wrong


def run(
    namespace: dict[str, Any], around: Callable[[Callable[[], None]], None] = lambda test: test()
) -> None:
    """Run the scenarios of a module, given as its `globals()`."""
    scenario_process.run(namespace, lambda test: leave_nothing(lambda: around(test)))
