"""What all connections of one worker process share, so that each of them carries one reference to
it."""

from __future__ import annotations

import itertools
import logging
import resource
import sys
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.config.trusted_proxies import Trust
from gworker.connection.address_limit import AddressLimit
from gworker.connection.deadlines import Deadlines
from gworker.connection.greenlet_pool import GreenletPool
from gworker.connection.idle_timeout import IdleCheck
from gworker.connection.lingering_close import Lingerer
from gworker.connection.min_rate import Pace
from gworker.connection.open_connections import OpenConnections
from gworker.connection.run_queue import RunQueue
from gworker.connection.send_queues import SendQueues
from gworker.connection.unanswered import Unanswered
from gworker.http.forwarded import Origin
from gworker.ipc.scoreboard import Column, Row
from gworker.protocols.base import Protocol
from gworker.protocols.http.head_buffer import HeadProtocol
from gworker.system import fork_guard
from gworker.system.peer_address import SocketAddress

if TYPE_CHECKING:
    from gworker.logs.access_log import AccessLog

log = logging.getLogger("gworker")

EXCEPTIONS = Column.EXCEPTIONS.value
REQUESTS = Column.REQUESTS.value
BYTES_READ = Column.BYTES_READ.value
BYTES_WRITTEN = Column.BYTES_WRITTEN.value

INBOX_MESSAGES = 32
"""Messages that may wait for a busy handler, and that are handled of one connection in a turn of
the event loop."""

RESERVE = 64
"""Descriptors that the sockets of connections leave for everything else: files, databases, the
control channel."""


class ServerContext:
    """One Worker in one process: its declaration, limits, counters and helpers."""

    holder: Any
    """Who may hold a connection back that is about to work off its inbox: the giver, or
    `RequestLimit`."""

    on_job_end: Callable[[Any], None] | None
    """Called with a connection whose handler has ended, or waits for more: the process retires."""

    batch: int
    """Messages that a connection decodes at once."""

    takes_no_more: bool
    """True while nothing is read or accepted, because of `--max-requests`."""

    requests_per_turn: int
    """How many may be begun in a turn of the event loop by what does not ask the holder each
    time."""

    def __init__(
        self, worker: Worker, limits: Limits, row: Row, loop: Any, ids: Iterator[int] | None = None
    ) -> None:
        self.worker = worker
        self.limits = limits
        self.row = row
        self.requests = self.bytes_read = self.bytes_written = 0
        self.holder = self.on_job_end = None
        self.batch, self.takes_no_more, self.requests_per_turn = INBOX_MESSAGES, False, 1 << 20
        self._flusher = loop.prepare()
        self._flusher.start(self._write_counters)
        self.loop = loop
        self.pool = GreenletPool()
        self.run_queue = RunQueue(loop)
        self.on_closed: list[Callable[[], None]] = []
        """Called after a connection has closed: acceptors that wait for a free descriptor."""
        self.lingerer = Lingerer(loop, limits.send_timeout, self.tell_closed)
        self.deadlines = Deadlines(loop, self.isolate_errors(methodcaller("deadline_passed")))
        self.closing = Deadlines(loop, self.isolate_errors(methodcaller("close_timed_out")))
        self.sending = Pace(
            loop, limits.send_timeout, limits.min_rate, lambda each: each.taken, _took_too_little
        )
        self.bodies = Pace(
            loop, limits.header_timeout, limits.min_rate,
            self.isolate_errors(attrgetter("body_progress")),
            self.isolate_errors(methodcaller("deadline_passed")),
        )  # fmt: skip
        self.idle = IdleCheck(self)
        self.send_queues = SendQueues(self)
        self.per_address = (
            AddressLimit(most) if (most := limits.max_connections_per_address) else None
        )
        self.connections = OpenConnections()
        self.unanswered = Unanswered(loop, self.connections)
        self.dialled: dict[int, Any] = {}
        """Those that this process has dialled (`client_connection`): no clients, so neither counted
        nor limited."""
        self.dialling_over = False
        """True once the process ends: nothing is dialled any more."""
        self.expected = 0
        """Connections that a predecessor is about to hand over: room that new ones may not
        take."""
        self.handshaking: set[Any] = set()
        """Sockets that were accepted and are no connections yet (`proxy_protocol`,
        `tls_accept`)."""
        self.giver: Any = None
        """Who hands our connections over, once this process retires and has a successor
        (`handover.Giver`)."""
        self.takers: set[Any] = set()
        """Those over which connections may still arrive (`takeover.Taker`)."""
        self.next_id = (ids or itertools.count(1)).__next__
        """A number that no other connection of the instance has."""
        self.retiring = False
        self.proxies: Trust | None = None
        """Whose PROXY header is read; None: that protocol is off."""
        self.forwarders = Trust("")
        """Whose Forwarded and X-Forwarded-For count."""
        self.access: AccessLog | None = None
        """None: there is no access log."""
        self.most_sockets = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE)
        self.copies = 0
        """Descriptors that connections have beyond their first one."""

    @property
    def is_at_work(self) -> bool:
        """True while callbacks run, or wait for the next turn of the event loop."""
        return self.pool.active > 0 or self.run_queue.is_busy

    @property
    def clients(self) -> int:
        """Connections that were accepted, are shaking hands, or are about to be handed over."""
        return len(self.connections) + len(self.handshaking) + self.expected

    @property
    def capacity_left(self) -> int:
        """How many more connections there may be."""
        others = self.copies + len(self.dialled) + len(self.lingerer.sockets)
        free, most = self.most_sockets - others - self.clients, self.limits.max_connections
        return min(free, most - self.clients) if most else free

    def capacity_reason(self) -> str:
        """Why there is no room."""
        most = self.limits.max_connections
        if most and self.clients >= most:
            return f"max_connections ({most}) reached"
        return f"{self.most_sockets} sockets, as many as the limit of descriptors leaves room for"

    def tell_closed(self) -> None:
        """A descriptor is free again."""
        for callback in self.on_closed:
            callback()

    def let_go(self) -> None:
        """In a process that user code has forked: what there is here is the parent's, and nobody
        is told."""
        self.on_closed.clear()
        self.next_id = itertools.count(1).__next__
        self._flusher.stop()
        self.row[Column.CONNECTIONS] = len(
            self.connections
        )  # the parent may have gone on before it was copied
        connections = (*self.connections.values(), *self.dialled.values())
        for each in (*connections, *self.handshaking, *self.takers, *self.lingerer.sockets):
            each.let_go()
        if self.giver is not None:
            self.giver.close()
            self.giver = None
        looks = (
            self.deadlines,
            self.closing,
            self.sending,
            self.bodies,
            self.idle,
            self.send_queues,
        )
        for watched in (*looks, self.run_queue):
            watched.stop()
        if self.access is not None:
            self.access.let_go()
        self.pool.let_go()

    def isolate_errors(
        self, step: Callable[..., Any], failure: str = "exception in its protocol"
    ) -> Callable[..., Any]:
        """Return what calls `step(connection, …)` from the hub.

        An exception, which a user's protocol may raise, costs that connection only: it is logged
        as `failure`, the connection is destroyed, and the call returns None.
        """
        return partial(self._isolated, step, failure)

    def _isolated(
        self,
        step: Callable[..., Any],
        failure: str,
        connection: Any,
        *arguments: Any,
        **options: Any,
    ) -> Any:
        try:
            return step(connection, *arguments, **options)
        except BaseException as error:
            fork_guard.end(error)
            connection.destroy()
            self.report_exception("%r: %s", connection, failure)
            return None

    def report_exception(self, message: str, *arguments: object) -> None:
        """Count and log the exception that is being handled, which user code has raised.

        In a copy of this process that user code has forked, end that instead.
        """
        fork_guard.end(sys.exception())
        self.row[EXCEPTIONS] += 1
        log.exception(message, *arguments)

    def configure_protocol(
        self, protocol: Protocol, remote: SocketAddress, over_tls: bool = False
    ) -> None:
        """Tell a protocol what it is to know of its Worker, and of the peer at `remote`."""
        protocol.configure(self.worker.options)
        if isinstance(protocol, HeadProtocol):
            trusted = self.forwarders and self.forwarders.has_peer(remote)
            if trusted or over_tls:
                trust = self.forwarders if trusted else None
                protocol.origin = Origin(remote, trust, "https" if over_tls else "http")
            else:
                protocol.origin = remote

    def _write_counters(self) -> None:
        """Copy what every message counts into the scoreboard, each time before the event loop
        sleeps.

        Words of shared memory cost three times as much to add to as attributes, and a turn of a
        busy loop serves dozens of messages.
        """
        row = self.row
        row[REQUESTS] = self.requests
        row[BYTES_READ] = self.bytes_read
        row[BYTES_WRITTEN] = self.bytes_written


def _took_too_little(connection: Any) -> None:
    waiting = connection.unacknowledged
    connection.reset()
    log.info("%r: it takes too little of what waits for it (%d bytes)", connection, waiting)
