"""A process's connections, in the process of the tests."""

from __future__ import annotations

import _socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.ipc.scoreboard import Column, Scoreboard
from gworker.protocols import Protocol

BOARD = Scoreboard()
"""One for all: each would keep its descriptors open, and select(2) knows no more than 1024."""


class Place:
    """A service in this process, and what happened in it."""

    def __init__(self, **limits: Any) -> None:
        self.worker = Worker("tcp://127.0.0.1:1", name="place")
        self.told: list[Any] = []
        self.worker.on_connect = lambda connection: self.told.append("connect")
        self.worker.on_message = lambda connection, message: self.told.append(message)
        self.worker.on_close = lambda connection: self.told.append("close")
        self.row = BOARD.row(BOARD.take())
        self.service = ServerContext(self.worker, Limits(**limits), self.row, get_hub().loop)
        self.fars: list[_socket.socket] = []

    def connected(
        self, protocol: Callable[[int], Protocol], handler: Callable[[Any], object] | None = None
    ) -> Connection:
        """As an Acceptor does it, from the hub."""
        near, far = _socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        self.fars.append(far)
        made: list[Any] = []

        def take() -> None:
            try:
                connection = Connection(self.service, near, None, protocol)  # type: ignore[arg-type]
                connection.observe()
                connection.open(handler)
            except Exception as error:
                near.close()
                made.append(error)
            else:
                made.append(connection)

        get_hub().loop.run_callback(take)
        self.until(lambda: made)
        if isinstance(made[0], Exception):
            raise made[0]
        return made[0]  # type: ignore[no-any-return]

    @staticmethod
    def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
        with gevent.Timeout(seconds):
            while not condition():
                gevent.sleep(0.005)

    def received(self, size: int = 65536) -> bytes | None:
        """None: nothing is there."""
        try:
            return self.fars[-1].recv(size)
        except BlockingIOError:
            return None

    @property
    def exceptions(self) -> int:
        return int(self.row[Column.EXCEPTIONS.value])

    @property
    def is_empty(self) -> bool:
        row, service = self.row, self.service
        return not (
            service.registry.connections
            or row[Column.CONNECTIONS.value]
            or service.timeouts.deadlines.due
            or service.timeouts.close_deadlines.due
        )
