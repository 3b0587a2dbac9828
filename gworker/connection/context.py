"""What all connections of one worker process share, so that each of them carries one reference to
it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from gevent import get_hub, monkey

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.config.trusted_proxies import Trust
from gworker.connection.access_recorder import Observer
from gworker.connection.greenlet_pool import GreenletPool
from gworker.connection.greenlets import Greenlets
from gworker.connection.handler_deadlines import HandlerDeadlines, MessageCall
from gworker.connection.lingering_close import LingeringClose
from gworker.connection.observing import Observers, direct
from gworker.connection.registry import Registry
from gworker.connection.run_queue import RunQueue
from gworker.connection.send_queues import SendQueues
from gworker.connection.timeouts import Timeouts
from gworker.connection.unanswered import Unanswered
from gworker.core import Poller, ServerState
from gworker.http.forwarded import Connected, Origin
from gworker.ipc.scoreboard import Column, Row
from gworker.logs.access_log import AccessLog
from gworker.protocols.base import Protocol as Machine
from gworker.protocols.http.head import HeadProtocol
from gworker.system import fork_guard
from gworker.system.event_loop import Loop
from gworker.system.peer_address import SocketAddress

if TYPE_CHECKING:
    from gworker.messages.messaging import Messaging

log = logging.getLogger("gworker")

P = ParamSpec("P")
R = TypeVar("R")

EXCEPTIONS = Column.EXCEPTIONS.value
REQUESTS = Column.REQUESTS.value
BYTES_READ = Column.BYTES_READ.value
BYTES_WRITTEN = Column.BYTES_WRITTEN.value

# Messages that may wait for a busy handler, and that are handled of one connection in a turn of the
# event loop.
QUEUE_MESSAGES = 32


class Holder(Protocol):
    """What may stop a connection from reading: the sender of a handover, or `RequestLimit`."""

    def hold(self, connection: Any) -> None:
        """`connection` is about to handle what has come."""


class Receiver(Protocol):
    """What takes connections over from a predecessor."""

    def let_go(self) -> None:
        """In a process that user code has forked: the parent takes them over."""


class ServerContext(ServerState):
    """One Worker in one process: its declaration, limits, counters and helpers.

    loop: gevent's. ids: numbers that no other connection of the instance has.
    """

    def __init__(
        self, worker: Worker, limits: Limits, row: Row, loop: Loop, ids: Iterator[int] | None = None
    ) -> None:
        self.worker = worker
        self.limits = limits
        self.row = row
        self.loop = loop
        self.requests = self.bytes_read = self.bytes_written = 0
        self._flusher = loop.prepare()
        self._flusher.start(self._write_counters)
        self.pool = GreenletPool()
        self.greenlets = Greenlets()
        self.run_queue = RunQueue(loop)
        self.lingerer = LingeringClose(loop, limits.send_timeout, self._on_lingered)
        self.registry = Registry(limits, row, self.lingerer.sockets, ids)
        self.timeouts = Timeouts(loop, limits, self.registry, self.isolate_errors)
        self.poller = Poller(
            get_hub(),
            self.pool,
            self.run_queue,
            self.timeouts.pending,
            time.monotonic,
            monkey.get_original("select", "epoll"),
        )
        self.pool.poller = self.poller
        # What calls on_message of connections, and their other callbacks; None: nothing is between.
        self.message_interceptor: MessageCall | None = None
        self.interceptor: Callable[..., Any] | None = None
        self.handler_deadlines: HandlerDeadlines | None = None  # None: none has a limit
        self._observers: Observers | None = None  # of the application
        if limits.handler_timeout or worker.has_own_limits:
            self.limit_handlers()
        self.send_queues = SendQueues(
            loop,
            limits.send_timeout,
            connections=self.registry.all,
            written=lambda: self.bytes_written,
            sending=self.timeouts.sending,
            row=row,
            run_queue=self.run_queue,
        )
        self.unanswered = Unanswered(loop, self.registry.connections)
        self._set_defaults()

    def _set_defaults(self) -> None:
        # What others set later: the process, its options, its end.

        # What makes the messages of this process, at their first use.
        self.make_messaging: Callable[[ServerContext], Messaging] | None = None
        self._messaging: Messaging | None = None
        # The peers whose PROXY header is read; None: that protocol is off.
        self.proxies: Trust | None = None
        self.forwarders = Trust("")  # the peers whose Forwarded and X-Forwarded-For count
        self.access: AccessLog | None = None  # None: there is no access log

        # How much is taken now
        self.batch = QUEUE_MESSAGES  # messages that a connection decodes at once
        # How many a listener of datagrams may begin in a turn of the event loop.
        self.requests_per_turn = 1 << 20
        # True while nothing is read or accepted, because of `--max-requests`.
        self.takes_no_more = False
        self.holder: Holder | None = None

        # How the process ends
        self.retiring = False
        self.dialling_over = False  # True once nothing is dialled any more
        # Called with a connection whose handler has ended, or waits for more: the process retires.
        self.on_job_end: Callable[[Any], None] | None = None
        self.receivers: set[Receiver] = set()  # those over which connections may still arrive

    @property
    def messaging(self) -> Messaging:
        """The groups and users of this process. The first use connects to the broker."""
        found = self._messaging
        return found if found is not None and found.is_ready else self.start_messaging()

    def start_messaging(self, wait: float | None = None, must_be_up: bool = False) -> Messaging:
        """Connect to the broker, unless that was done: see `Messaging.start`."""
        found = self.unstarted_messaging
        if wait is None:
            found.start()
        else:
            found.start(wait, must_be_up)
        return found

    @property
    def unstarted_messaging(self) -> Messaging:
        """The groups and users of this process, which may not be connected to the broker yet."""
        if self._messaging is None:
            if self.make_messaging is None:
                raise RuntimeError("there are no groups and users outside a worker process")
            self._messaging = self.make_messaging(self)
        return self._messaging

    @property
    def used_messaging(self) -> Messaging | None:
        """None: nothing has used them yet."""
        return self._messaging

    def end_messaging(self) -> None:
        if self._messaging is not None:
            self._messaging.end()

    def limit_handlers(self) -> None:
        """From now on callbacks have a limit: that of the settings, or their own."""
        if self.handler_deadlines is None:
            self.handler_deadlines = HandlerDeadlines(
                self.loop, get_hub(), self.limits.handler_timeout, self.row
            )
            self._set_interceptors()

    def observe(self, observers: Sequence[object]) -> None:
        """Tell `observers` of callbacks and requests, from the next connection on."""
        if not observers:
            return
        if self._observers is None:
            self._observers = Observers(self.pool, self.report_exception)
            # Those of the process are kept by what calls them.
            observed = self._observers.observed(direct)
            callbacks = self.worker.process_callbacks
            callbacks.update({name: partial(observed, name, callbacks[name]) for name in callbacks})
        self._observers.use(observers)
        self._set_interceptors()

    def _set_interceptors(self) -> None:
        # A limit is for the callback itself: observers stand outside.
        limits, observers = self.handler_deadlines, self._observers
        self.interceptor = None if limits is None else limits.call
        self.message_interceptor = None if limits is None else limits.message_call()
        if observers is not None and observers.of_calls:
            inner = self.interceptor or direct
            self.interceptor = observers.observed(inner)
            self.message_interceptor = observers.observed_message(inner)

    def intercepted(
        self, name: str, callback: Callable[..., Any], connection: Any, *arguments: Any
    ) -> Any:
        """Call `callback(connection, …)`, which is the callback `name`, as any other. Raises what
        it raises."""
        if self.interceptor is None:
            return callback(connection, *arguments)
        return self.interceptor(name, callback, connection, *arguments)

    def observer(self, protocol: object) -> Observer | None:
        """A new observer of an accepted connection that speaks `protocol`; None: nothing is to
        be told of it."""
        watching = self._observers
        if watching is not None and not watching.of_requests:
            watching = None
        if self.access is None and watching is None:
            return None
        return Observer(self.access, protocol, watching)

    @property
    def is_at_work(self) -> bool:
        """True while callbacks run, or wait for the next turn of the event loop, or greenlets
        beside them."""
        return self.pool.active > 0 or self.run_queue.is_busy or bool(self.greenlets.running)

    def start(self) -> None:
        self.send_queues.start()
        self.timeouts.start()

    def release_all(self) -> None:
        # In a process that user code has forked: all of this is the parent's.
        self._flusher.stop()
        if self._messaging is not None:
            self._messaging.let_go()
        self.poller.let_go()
        self.registry.release_all()
        for each in (*self.receivers, *self.lingerer.sockets):
            each.let_go()
        for helper in (self.timeouts, self.send_queues, self.run_queue):
            helper.stop()
        if self.handler_deadlines is not None:
            self.handler_deadlines.stop()
        if self.access is not None:
            self.access.let_go()
        self.pool.let_go()
        self.greenlets.let_go()

    def _on_lingered(self) -> None:
        self.registry.notify_closed()

    def isolate_errors(
        self, step: Callable[P, R], failure: str = "exception in its protocol"
    ) -> Callable[P, R | None]:
        """Return what calls `step(connection, …)` from the hub.

        An exception, which a user's protocol may raise, costs that connection only: it is logged
        as `failure`, the connection is destroyed, and the call returns None.
        """

        def isolated(*arguments: P.args, **options: P.kwargs) -> R | None:
            try:
                return step(*arguments, **options)
            except BaseException as error:
                fork_guard.end(error)
                connection: Any = arguments[0]
                connection.destroy()
                self.report_exception("%r: %s", connection, failure)
                return None

        return isolated

    def report_exception(self, message: str, *arguments: object) -> None:
        """Count and log the exception that is being handled, which user code has raised.

        In a copy of this process that user code has forked, end that instead.
        """
        fork_guard.end(sys.exception())
        self.row[EXCEPTIONS] += 1
        log.exception(message, *arguments)

    def configure_protocol(self, protocol: Machine, peer: Connected) -> None:
        """Give a protocol the options of its Worker, and HTTP what knows where its peer is."""
        protocol.configure(self.worker.options)
        if isinstance(protocol, HeadProtocol):
            protocol.origin = peer

    def origin_of(self, remote: SocketAddress, over_tls: bool) -> Origin | SocketAddress:
        """Where the requests of a peer with this address come from."""
        trusted = self.forwarders and self.forwarders.has_peer(remote)
        if not trusted and not over_tls:
            return remote
        return Origin(remote, self.forwarders if trusted else None, "https" if over_tls else "http")

    def _write_counters(self) -> None:
        # Copy what every message counts into the scoreboard, each time before the event loop
        # sleeps.
        #
        # Words of shared memory cost three times as much to add to as attributes, and a turn of a
        # busy loop serves dozens of messages.
        row = self.row
        row[REQUESTS] = self.requests
        row[BYTES_READ] = self.bytes_read
        row[BYTES_WRITTEN] = self.bytes_written
