"""The connections of one process: which are open, their ids, and how many more there may be."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Callable, Iterator, Sized
from typing import Any, Protocol

from gworker.app.limits import Limits
from gworker.connection.address_limit import AddressLimit
from gworker.connection.open_connections import OpenConnections
from gworker.http.forwarded import Origin, PeerAddress
from gworker.ipc.scoreboard import Column, Row
from gworker.system.peer_address import SocketAddress

CONNECTIONS = Column.CONNECTIONS.value

# Descriptors that the sockets of connections leave for everything else: files, databases, the
# control channel.
RESERVE = 64


# `ServerContext.isolate_errors`: how what is done with one connection costs no other.
Isolate = Callable[[Callable[..., Any]], Callable[..., Any]]


class Registered(Protocol):
    """A connection, or a socket that is handled in place of one."""

    id: int

    @property
    def is_dialled(self) -> bool: ...
    @property
    def protocol(self) -> str: ...
    @property
    def remote_ip(self) -> str: ...
    @property
    def remote_address(self) -> str: ...
    @property
    def origin(self) -> Origin | PeerAddress:
        """Where its requests come from."""

    @property
    def peer_closed(self) -> bool: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def bytes_written(self) -> int: ...
    @property
    def send_queue(self) -> int: ...
    def let_go(self) -> None:
        """In a process that user code has forked: it is the parent's."""


class Member(Registered, Protocol):
    """A connection, as the timeouts of its process see it."""

    idle_mark: tuple[int, float] | None  # bytes_read at the last look, and since when

    @property
    def status(self) -> str: ...
    @property
    def unacknowledged(self) -> int: ...
    @property
    def is_idle(self) -> bool:
        """No handler runs, and nothing waits."""

    @property
    def is_held(self) -> bool:
        """It is not read, whatever the peer sends."""

    @property
    def is_resting(self) -> bool:
        """It is between two exchanges."""

    @property
    def unfinished(self) -> int | None:
        """Which message has come in part, as a number; None: none."""

    @property
    def io(self) -> object:
        """Its transport: another one after each time that it is dialled."""

    def probe(self) -> bool:
        """Ask the peer. False: that is not possible."""

    def is_silent(self, read: int, written: int) -> bool:
        """Whether nothing has come since `bytes_read` was `read`, and nothing went, unless -1,
        since `bytes_written` was `written`."""

    def expire(self) -> None:
        """The peer does not answer: end the connection."""

    def close(self, data: object = None, code: int = 1000, reason: str = "") -> None: ...
    def reset(self) -> None:
        """Close it with a reset."""


class Handshaking(Protocol):
    """A socket that was accepted and is no connection yet."""

    def destroy(self) -> None:
        """The process ends: close it."""

    def let_go(self) -> None:
        """In a process that user code has forked: it is the parent's."""


class Registry:
    """The connections of one process.

    ids: numbers that no other connection of the instance has. lingering: sockets that are being
    closed.
    """

    def __init__(
        self, limits: Limits, row: Row, lingering: Sized, ids: Iterator[int] | None = None
    ) -> None:
        self._limit = limits.max_connections
        self._row = row
        self._lingering = lingering
        self.next_id: Callable[[], int] = (ids or itertools.count(1)).__next__
        self.connections = OpenConnections()  # those that were accepted, by id
        # Those that this process has dialled: no clients, so neither counted nor limited.
        self.dialled: dict[int, Any] = {}
        # Sockets that were accepted and are no connections yet (`proxy_protocol`, `tls_accept`).
        self.handshaking: set[Handshaking] = set()
        # Connections that a predecessor is about to hand over: the acceptor leaves room for them.
        self.expected = 0
        self.extra_descriptors = 0  # descriptors that connections have beyond their first one
        self.max_sockets = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE)
        self.per_address = AddressLimit(limits.max_connections_per_address)
        # Called after a descriptor was closed: acceptors that wait for a free one.
        self.on_closed: list[Callable[[], None]] = []

    def register(self, connection: Registered, remote: SocketAddress) -> None:
        if connection.is_dialled:
            self.dialled[connection.id] = connection
            return
        self.connections[connection.id] = connection
        self._row[CONNECTIONS] += 1
        self.per_address.add(remote)

    def unregister(self, connection: Registered, remote: SocketAddress) -> None:
        if connection.is_dialled:
            del self.dialled[connection.id]
            return
        del self.connections[connection.id]
        self._row[CONNECTIONS] -= 1
        self.per_address.remove(remote)

    def all(self) -> list[Member]:
        return [*self.connections.values(), *self.dialled.values()]

    @property
    def clients(self) -> int:
        """Connections that were accepted, are shaking hands, or are about to be handed over."""
        return len(self.connections) + len(self.handshaking) + self.expected

    @property
    def capacity_left(self) -> int:
        """How many more connections there may be."""
        clients = self.clients
        others = self.extra_descriptors + len(self.dialled) + len(self._lingering)
        free = self.max_sockets - others - clients
        return min(free, self._limit - clients) if self._limit else free

    @property
    def capacity_reason(self) -> str:
        """Which limit is reached when no capacity is left."""
        if self._limit and self.clients >= self._limit:
            return f"max_connections ({self._limit}) reached"
        return f"{self.max_sockets} sockets, as many as the limit of descriptors leaves room for"

    def notify_closed(self) -> None:
        for callback in self.on_closed:
            callback()

    def release_all(self) -> None:
        self.on_closed.clear()
        self.next_id = itertools.count(1).__next__
        # The parent may have changed its number after this process was copied.
        self._row[CONNECTIONS] = len(self.connections)
        for member in self.all():
            member.let_go()
        for socket in list(self.handshaking):
            socket.let_go()
