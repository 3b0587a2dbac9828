"""Processes that share a broker, in one event loop: a scenario decides what happens when.

Imported by programs under `tests/scenarios` only, before anything that gevent patches.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import _socket
import copy
import itertools
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
from gevent import get_hub

from gworker import protocols
from gworker.app import worker
from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.broker.interface import Broker
from gworker.broker.memory import MemoryBroker, MemoryServer
from gworker.broker.store.store import Store
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.ipc.scoreboard import Column, Scoreboard
from gworker.messages.declarations import Declarations, checked
from gworker.messages.messaging import Messaging
from gworker.process.brokers import host_of

board = Scoreboard(1024)
_ids = itertools.count(1)  # no two connections of an instance have the same


def until(condition: Any, seconds: float = 10) -> None:
    """Let others run until `condition()` is true."""
    with gevent.Timeout(seconds):
        while not condition():
            gevent.sleep(0.001)


def settle() -> None:
    """Let all that is on its way arrive."""
    for _ in range(20):
        gevent.sleep(0)
    gevent.sleep(0.01)


class Client:
    """A connection of a process, and its other end."""

    def __init__(self, process: Process, protocol: Any, **limits: int) -> None:
        near, far = socket.socketpair()
        self.far = far
        far.setblocking(False)
        plain = _socket.socket(fileno=near.detach())
        plain.setblocking(False)
        chosen = protocols.get(protocol) if isinstance(protocol, str) else protocol
        self.connection = Connection(process.service, plain, ("127.0.0.1", 1), chosen)
        for name, value in limits.items():
            setattr(self.connection, name, value)
        get_hub().loop.run_callback(self.connection.open)
        gevent.sleep(0)

    def read(self) -> bytes:
        data = b""
        while True:
            try:
                more = self.far.recv(1 << 20)
            except BlockingIOError:
                return data
            if not more:
                return data
            data += more

    @property
    def lines(self) -> list[str]:
        """What has come since, after all has arrived."""
        settle()
        return self.read().decode().splitlines()

    @property
    def is_open(self) -> bool:
        return self.connection.status == "established"


class FailingServer(MemoryServer):
    """One whose store can be lost."""

    def save(self) -> Store:
        """What a replica has now."""
        return copy.deepcopy(self._store, {id(self): self})

    def fail_over(self, replica: Store | None = None) -> None:
        """Go on with what a replica had; None: with nothing."""
        self._store = replica or Store(self._deliver)


class Process:
    """One process. server: the one of its broker, or what makes the broker. declared: what
    `messages.declare` was called with."""

    def __init__(
        self,
        server: MemoryServer | Callable[[], Broker],
        *declared: dict[str, Any],
        name: str = "w",
        generation: int = 1,
        **callbacks: Any,
    ) -> None:
        self.worker = Worker(name=name, **callbacks)
        self.row = board.row(board.take())
        self.service = ServerContext(self.worker, Limits(), self.row, get_hub().loop, _ids)
        self.server: Any = server
        self.broker = MemoryBroker(server) if isinstance(server, MemoryServer) else server()
        declarations = Declarations()
        for each in declared:
            declarations.add(checked(**each))
        self.service.make_messaging = partial(self._made, declarations, generation)

    def _made(
        self, declarations: Declarations, generation: int, service: ServerContext
    ) -> Messaging:
        return Messaging(self.broker, host_of(service, generation), declarations)

    @property
    def messages(self) -> Messaging:
        return self.service.messaging

    @property
    def exceptions(self) -> int:
        return int(self.row[Column.EXCEPTIONS])

    def connect(self, protocol: Any = "text", **limits: int) -> Client:
        return Client(self, protocol, **limits)


class Running:
    """The process whose public calls are made."""

    def __init__(self, process: Process) -> None:
        self.service = process.service


def run_in(process: Process) -> None:
    """The functions of `gworker.messages` are those of this process from now on."""
    worker.running[:] = [(process.worker, Running(process))]


def processes(count: int, *declared: dict[str, Any], **callbacks: Any) -> list[Process]:
    server = FailingServer()
    made = [Process(server, *declared, **callbacks) for _ in range(count)]
    for each in made:
        each.service.start_messaging()
    run_in(made[0])
    return made
