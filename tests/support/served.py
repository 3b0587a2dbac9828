"""Connections with either core, in the process and the event loop of the tests.

Their other ends are plain sockets, and what callbacks are told is written down.
"""

from __future__ import annotations

import _socket
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent
from gevent import get_hub
from pure import Loaded, modules, pure_modules

CORES = {modules().core.IMPLEMENTATION: modules()}
CORES.setdefault(pure_modules().core.IMPLEMENTATION, pure_modules())
"""The implementations that are there, by their names."""

COUNTERS = ("EXCEPTIONS", "SEND_FAILURES")


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Let others run until `condition()` is true."""
    with gevent.Timeout(seconds):
        while not condition():
            gevent.sleep(0.001)


def turns(seconds: float) -> int:
    """How often the event loop wakes up in so many seconds in which nothing is due."""
    count = 0

    def add() -> None:
        nonlocal count
        count += 1

    watcher: Any = get_hub().loop.prepare()
    watcher.start(add)
    gevent.sleep(seconds)
    watcher.stop()
    watcher.close()
    return count


class Far:
    """The other end of a connection of ours."""

    def __init__(self, far: socket.socket, connection: Any) -> None:
        self.socket = far
        self.connection = connection
        self.got = b""
        self.ended = ""  # how the stream has ended

    def send(self, data: bytes) -> None:
        """Send all of it. The others run meanwhile if it is more than the kernel takes."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                gevent.sleep(0.001)

    def read(self) -> bytes:
        """All that has come so far."""
        with suppress(BlockingIOError):
            while not self.ended:
                try:
                    data = self.socket.recv(1 << 18)
                except ConnectionResetError:
                    self.ended = "reset"
                else:
                    self.got += data
                    self.ended = "" if data else "end"
        return self.got


class Served:
    """A service with the modules `loaded`."""

    def __init__(self, loaded: Loaded, **limits: Any) -> None:
        self.loaded = loaded
        self.worker = loaded.worker.Worker("tcp://127.0.0.1:1", name="served")
        self.board = loaded.scoreboard.Scoreboard(1)
        self.row = self.board.row(self.board.take())
        self.context = loaded.context.ServerContext(
            self.worker, loaded.limits.Limits(**limits), self.row, get_hub().loop
        )
        self.fars: list[Far] = []

    def protocol(self, name: str | type) -> Any:
        return self.loaded.protocols.get(name) if isinstance(name, str) else name

    def connect(
        self,
        protocol: str | type,
        pair: tuple[Any, Any] | None = None,
        handler: Callable[[Any], object] | None = None,
        now: bool = False,
        **callbacks: Any,
    ) -> Far:
        """A connection and its other end. pair: of sockets. now: do not wait for the
        hub to open it. callbacks: those of its own."""
        near, far = socket.socketpair() if pair is None else pair
        far.setblocking(False)
        if isinstance(near, socket.socket):
            near = _socket.socket(fileno=near.detach())
            near.setblocking(False)
        made = self.loaded.connection.Connection(
            self.context, near, ("127.0.0.1", 1), self.protocol(protocol)
        )
        for name, callback in callbacks.items():
            made.set_callback(name, callback)
        self.fars.append(Far(far, made))
        if now:
            made.open(handler)
        else:
            get_hub().loop.run_callback(made.open, handler)
            gevent.sleep(0)
        return self.fars[-1]

    def counters(self) -> dict[str, int]:
        column = self.loaded.scoreboard.Column
        counted = {name: self.row[getattr(column, name)] for name in COUNTERS}
        context = self.context
        return counted | {
            "requests": context.requests,
            "bytes_read": context.bytes_read,
            "bytes_written": context.bytes_written,
        }

    def hang_up(self, far: Far) -> None:
        """End it from both sides."""
        far.connection.set_callback("on_close", None)
        far.connection.destroy()
        far.socket.close()
        self.fars.remove(far)

    def close(self) -> None:
        for far in list(self.fars):
            self.hang_up(far)
        until(lambda: not self.context.lingerer.sockets and not self.context.is_at_work)
        self.context.poller.let_go()
        self.context.run_queue.stop()


def over_tcp() -> tuple[socket.socket, socket.socket]:
    """A connected pair: the accepted one, and the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    return near, far


def is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
