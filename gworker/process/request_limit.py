"""--max-requests in one process: when it asks for a successor, and when it takes nothing more until
that is ready.

    N requests         it asks the arbiter for a successor, and serves on
    a tenth more       it takes nothing more. New connections, and what open ones send, wait in the
                       kernel until the successor is ready, which then gets the connections that
                       can move
    no successor       it serves on, and is replaced whenever there is one: better a leak than no
                       service

Connections that cannot move are answered once more, which counts in advance, within a tenth of N.
A request is a message that is handled, as in `status`. The limit is checked before each batch of
messages of a connection, and in each turn of the event loop.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from operator import methodcaller

from gworker.connection.connection import Connection
from gworker.connection.context import QUEUE_MESSAGES, ServerContext
from gworker.server.listeners import WorkerListeners

log = logging.getLogger("gworker")

HOLD_SECONDS = 10.0  # how long peers wait for the successor


class RequestLimit:
    """The limit of one process.

    most: requests; 0: there is no limit. jitter: up to so many more, drawn once. ask: asks the
    arbiter for a successor, with the reason; False: that cannot be sent now.
    """

    def __init__(
        self,
        service: ServerContext,
        listeners: WorkerListeners,
        most: int,
        jitter: int,
        ask: Callable[[str], bool],
    ) -> None:
        self._service = service
        self._listeners = listeners
        self._most = most and most + random.randint(0, jitter)
        self._slack = self._most // 10
        # How many requests of each connection may still be answered when nothing more is taken.
        if service.worker.connection_handler is not None:
            self._to_come = 2  # it handles one of them already
        else:
            cannot_move = service.worker.declaration().migration_obstacle
            self._to_come = int(cannot_move != "" or "tls" in service.worker.options)
        self._ask = ask
        self._is_asked = False
        self._is_over = False
        self._watcher = service.loop.prepare()
        self._timer = service.loop.timer(HOLD_SECONDS)

    def start(self) -> None:
        if self._most:
            self._watcher.start(self.poll)
            self._service.holder = self
            self._service.requests_per_turn = max(1, self._most // 20)
            self._service.batch = max(1, min(QUEUE_MESSAGES, self._most // 40))

    def hold(self, connection: Connection) -> None:
        """A connection is about to handle what it has received: once nothing more is taken, it
        reads no further."""
        service = self._service
        if service.requests >= self._most - self._slack:
            self.poll()
            if (
                service.takes_no_more and connection.id in service.registry.connections
            ):  # not a dialled one
                connection.hold_back()

    def poll(self) -> None:
        service, most, slack = self._service, self._most, self._slack
        if service.requests < most - slack or self._is_over:
            return
        to_come = max(2 * service.batch, len(service.registry.connections) * self._to_come)
        is_full = service.requests + 1 + min(to_come, 2 * slack) >= most + slack
        if not self._is_asked and (is_full or service.requests >= most):
            self._is_asked = self._ask(f"{service.requests} requests, {most} were allowed")
        if is_full and not service.takes_no_more:
            self._take_no_more()

    def _take_no_more(self) -> None:
        self._service.takes_no_more = True
        self._timer.start(self.serve_on)
        self._listeners.pause()
        self._for_each("hold_back")

    def serve_on(self) -> None:
        """There is no successor, or not in time."""
        was_held = self._service.takes_no_more
        if not self._is_over:
            self.end()
        if was_held:
            log.warning(
                "no successor is ready: requests beyond --max-requests are served until there "
                "is one"
            )
            self._listeners.start()
            self._for_each("read_on")

    def end(self) -> None:
        """The limit holds no longer. Connections that were held back stay so for now."""
        self._is_over = True
        self.release_all()
        self._service.takes_no_more = False
        self._service.holder = None
        self._service.batch = QUEUE_MESSAGES

    def release_all(self) -> None:
        """In a process that user code has forked: it serves no peers."""
        self._watcher.stop()
        self._timer.stop()

    def _for_each(self, name: str) -> None:
        step = self._service.isolate_errors(methodcaller(name))
        for connection in self._service.registry.connections.values():
            step(connection)
