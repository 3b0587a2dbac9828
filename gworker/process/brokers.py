"""The broker that a process uses, and its messages over it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from gevent import get_hub
from greenlet import getcurrent, greenlet

from gworker.config.settings import Settings
from gworker.connection.context import ServerContext
from gworker.errors import BrokerDown
from gworker.ipc.assignment import Assignment
from gworker.ipc.scoreboard import BROKER_STATES, Column, Row
from gworker.system import fork_guard

if TYPE_CHECKING:
    from gworker.broker.interface import Broker
    from gworker.messages.host import Host
    from gworker.messages.messaging import Messaging


def make_broker(settings: Settings, assignment: Assignment) -> Broker:
    """The broker that the settings name. Raises BrokerDown if it is the local one, and this
    instance has none.

    What it needs is imported here, so that a process without messages does without.
    """
    if settings.broker.kind == "memory":
        from gworker.broker.memory import MemoryBroker

        return MemoryBroker()
    if settings.broker.kind == "local":
        from gworker.broker.local import LocalBroker

        if not assignment.broker:
            raise BrokerDown("this instance has no runtime files, and so no local broker")
        return LocalBroker(
            assignment.broker, get_hub().loop.run_callback, make_readable=ReadableSocket
        )
    from gworker.broker.redis.broker import RedisBroker

    return RedisBroker(
        settings.broker,
        settings.cluster_name or "",
        instance=assignment.instance,
        make_readable=ReadableSocket,
    )


class ReadableSocket:
    """Lets a greenlet wait until a socket may be read. It implements `link.Readable`.

    gevent's own sockets start and stop a watcher each time, and try to read before they wait. Here
    the watcher runs on, and stops only when something can be read for which no greenlet waits.
    """

    def __init__(self, end: socket.socket) -> None:
        self._hub = get_hub()
        self._watcher = self._hub.loop.io(end.fileno(), 1)
        self._is_watched = False
        self._waiting: greenlet | None = None

    def wait(self) -> None:
        self._waiting = getcurrent()
        if not self._is_watched:
            self._is_watched = True
            self._watcher.start(self._wake)
        try:
            self._hub.switch()
        finally:
            self._waiting = None

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()

    def _wake(self) -> None:
        if self._waiting is None:
            self._is_watched = False
            self._watcher.stop()
        else:
            self._waiting.switch()


def make_messaging(
    broker: Callable[[], Broker], generation: int, service: ServerContext
) -> Messaging:
    """The messages of the process that `service` serves."""
    from gworker.messages.messaging import Messaging

    return Messaging(broker(), host_of(service, generation))


def host_of(service: ServerContext, generation: int) -> Host:
    """What `service` is to the messages of its process."""
    from gworker.messages.host import Host

    return Host(
        connections=service.registry.connections,
        worker=service.worker.name,
        spawn=partial(_spawn, service),
        pause=service.run_queue.wait,
        report=service.report_exception,
        callbacks=service.worker.process_callbacks,
        generation=generation,
    )


def write_figures(messaging: Messaging, row: Row) -> None:
    """What the scoreboard shows of the messages of this process."""
    broker = messaging.broker
    row[Column.BROKER] = 1 + BROKER_STATES.index(messaging.state)
    row[Column.BROKER_LATENCY_US] = int(broker.latency * 1e6)
    row[Column.GROUPS] = messaging.channels.groups
    row[Column.SUBSCRIPTIONS] = len(messaging.channels)
    row[Column.PUBLISHED] = messaging.published
    row[Column.DELIVERED] = messaging.delivery.delivered
    row[Column.DROPPED] = messaging.delivery.dropped
    row[Column.GAPS] = messaging.gaps.count


def _spawn(service: ServerContext, function: Callable[..., object], *arguments: object) -> None:
    service.pool.start_soon(_Task(service, function, arguments))


class _Task:
    """The pool job that calls a function. The process does not leave while it runs."""

    def __init__(
        self, service: ServerContext, function: Callable[..., Any], arguments: tuple[object, ...]
    ) -> None:
        self._service = service
        self._function = function
        self._arguments = arguments

    def run(self, _: greenlet) -> None:
        try:
            self._function(*self._arguments)
        except BaseException:
            self._service.report_exception(
                "exception in %s", getattr(self._function, "__qualname__", self._function)
            )
        fork_guard.end()
