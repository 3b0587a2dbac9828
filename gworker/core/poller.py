"""The sockets of a process in one epoll set, and the greenlets that serve those that are ready.

gevent's loop watches the set itself, with one watcher; a connection has none. When sockets are
ready, the hub switches into one pooled greenlet, the leader: it reads them one after the other and
runs their jobs itself. A handler that does not block costs no switch. If one blocks, the hub gets
control back, finds that the batch is not finished, and lets another greenlet lead. The one that has
blocked finishes its job when it goes on, and leads no more.

Only a job may wait. What reads may call a protocol of the user's, which must not be called again
before it has returned: it is refused to wait (`Poller.reader`).

An event may be older than its socket: one was closed in this batch, and another has its descriptor.
So `on_ready` relies on nothing but the socket itself.

The set is edge-triggered (epoll(7)): an event says that something has come since the last one. So a
transport that stops reading before the socket is empty asks for another event (`watch`). A read
that returns less than was asked for has emptied it; but urgent data ends a read, so a socket that
has some asks, too. TLS and unix sockets are level-triggered: how much OpenSSL leaves in the socket
is not known, and a read of a unix socket ends behind descriptors that its peer has sent (unix(7)).
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context
from itertools import islice
from operator import length_hint
from typing import Any, Final, Protocol

BATCH = 512
"""Sockets that are taken from the kernel at once."""

ROUNDS = 4
"""Batches in one turn of the event loop: what comes while one is served needs no further turn."""

SECONDS = 0.005
"""Timers, and all else that the event loop serves, wait no longer than about that and for one
handler."""

AT_ONCE = 16
"""Sockets between two looks at the clock, which costs as much as a small handler. At first they are
fewer: handlers may be slow."""

IN: Final = select.EPOLLIN
READABLE: Final = IN | select.EPOLLRDHUP | select.EPOLLPRI
WRITABLE: Final = select.EPOLLOUT
EDGE: Final = select.EPOLLET


class Job(Protocol):
    """What a pooled greenlet runs."""

    def run(self, me: Any) -> None:
        """Do the work in greenlet `me`. What escapes is a fault of ours, which the hub is told."""


class Pool(Protocol):
    """`connection.greenlet_pool.GreenletPool`."""

    def start(self, job: Job) -> None: ...


class RunQueue(Protocol):
    """`connection.run_queue.RunQueue`."""

    def add(self, step: Callable[[], object]) -> None: ...


class Readable(Protocol):
    """What is in the set: a Transport."""

    def on_ready(self, events: int) -> Job | None:
        """Read and write; return what is to be run now. `events`: of epoll(7)."""


class Poller:
    """The epoll set of one process.

    pool: the greenlets that lead. run_queue: what goes on in the next turn of the event loop.
    _pending: the peers under a deadline, which the compiled core asks for. clock: seconds.
    epoll: `select.epoll`, which gevent hides, as it would block the process. reader: the greenlet
    that reads just now, and must not wait.
    """

    def __init__(
        self,
        hub: Any,
        pool: Pool,
        run_queue: RunQueue,
        _pending: Mapping[Any, object],
        clock: Callable[[], float],
        epoll: Callable[[], Any],
    ) -> None:
        self.reader: Any = None
        self._make_epoll = epoll
        self._epoll: Any = None  # before the first socket
        self._hub = hub
        self._clock = clock
        self._pool = pool
        self._run_queue = run_queue
        self._sockets: list[Readable | None] = []  # by descriptor
        self._events: Iterator[tuple[int, int]] = iter(())
        self._has_more = False  # `_events` is not at its end
        self._is_queued = False  # for the next turn
        self._leader: Any = None  # None: the one that has led has blocked
        self._end = 0.0  # when this turn is over
        self._watcher: Any = None

    def fileno(self) -> int:
        """The descriptor of the set; -1 before the first socket."""
        return -1 if self._epoll is None else self._epoll.fileno()

    def _open(self) -> None:
        self._epoll = self._make_epoll()
        self._watcher = self._hub.loop.io(self.fileno(), IN)  # EV_READ (ev(3)) is the same number
        self._watcher.start(self._on_ready)

    # ---- the set

    def watch(self, descriptor: int, socket: Readable, events: int) -> None:
        """Call `socket.on_ready` if one of `events` is there, and when it comes."""
        if self._epoll is None:
            self._open()
        sockets = self._sockets
        if descriptor >= len(sockets):
            sockets.extend([None] * (descriptor + 64 - len(sockets)))
        if sockets[descriptor] is socket:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
            sockets[descriptor] = socket

    def forget(self, descriptor: int, socket: Readable) -> None:
        """Take it out, before it is closed or another process goes on with it."""
        if descriptor < len(self._sockets) and self._sockets[descriptor] is socket:
            self._sockets[descriptor] = None
            self._epoll.unregister(descriptor)

    def let_go(self) -> None:
        """In a process that user code has forked: the set is the parent's, too. There may be
        another one."""
        if self._epoll is not None:
            self._watcher.stop()
            self._watcher.close()
            self._epoll.close()
            self._epoll = None
        self._sockets[:] = [None] * len(self._sockets)
        self._events = iter(())
        self._has_more = self._is_queued = False

    # ---- a turn

    def _take_turn(self) -> None:
        self._is_queued = False
        self._on_ready()

    def _on_ready(self) -> None:
        self._end = self._clock() + SECONDS
        for _ in range(ROUNDS):
            if not self._has_more:
                if self._epoll is None:
                    return
                events = self._epoll.poll(0, BATCH)
                if not events:
                    return
                self._events = iter(events)
                self._has_more = True
            while self._has_more:
                self._pool.start(self)
                self._leader = None
                if self._end <= self._clock():
                    if not self._is_queued:  # once: what is due of others is queued, too
                        self._is_queued = True
                        self._run_queue.add(self._take_turn)
                    return

    def run(self, me: Any) -> None:
        """Lead: serve what is ready in greenlet `me`."""
        self._leader = me
        me.gr_context = context = Context()  # to ask whether it is empty costs less than to get it
        sockets, events, end = self._sockets, self._events, self._end
        socket, at_once = None, 1
        try:
            while True:
                for descriptor, event in islice(events, at_once):
                    socket = sockets[descriptor]
                    if socket is None:  # closed in this batch
                        continue
                    self.reader = me
                    job = socket.on_ready(event)
                    self.reader = None
                    if job is not None:
                        job.run(me)
                        if context:  # the next handler does not see what this one has set
                            me.gr_context = context = Context()
                    if self._leader is not me:  # it has blocked
                        return
                if length_hint(events) == 0:
                    break
                if self._clock() >= end:
                    return
                if at_once < AT_ONCE:
                    at_once *= 2
        except BaseException:
            self.reader = None
            if socket is not None:  # it is not served again before it is closed
                self.forget(descriptor, socket)
            self._hub.handle_error(socket, *sys.exc_info())
            return
        self._has_more = False
