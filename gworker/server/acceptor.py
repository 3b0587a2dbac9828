"""Accepting connections: the errno policy, the cap, and what happens when descriptors run out.

Errors of accept(2) are of three kinds. Some belong to the connection that was being accepted: the
next one may be fine. Some say that this process or the machine is full: wait until something was
closed. Anything else is a fault of ours: `loop_errors` logs it, and accept is tried again later.
"""

from __future__ import annotations

import _socket
import errno
import logging
from collections.abc import Callable
from typing import Any

from gworker.connection.context import ServerContext
from gworker.ipc.scoreboard import Column
from gworker.server.accept_balance import ALONE, AcceptBalance
from gworker.system.epoll import READ, forget
from gworker.system.event_loop import Watcher
from gworker.system.peer_address import SocketAddress
from gworker.system.socket_options import limit_send_buffer

log = logging.getLogger("gworker")

# accept(2): "already-pending network errors on the new socket"; EPERM is a firewall's.
PEER_GONE = frozenset({
    errno.ECONNABORTED, errno.ENETDOWN, errno.EPROTO, errno.ENOPROTOOPT, errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EPERM,
    errno.EINTR,
})  # fmt: skip

FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# Seconds until accept is tried again when the machine is full, doubled each time.
RETRY_FIRST, RETRY_MOST = 0.1, 1.0

ACCEPTED = Column.ACCEPTED.value

# Connections accepted at the end: twice what a kernel's queue holds, so that it ends while new ones
# come.
DRAIN_MOST = 8192

Serve = Callable[[_socket.socket, SocketAddress], None]


class Acceptor:
    """The accepting end of one listener in this process. `serve` gets each new socket.

    balance: None for a listener that no other process accepts from.
    """

    def __init__(
        self,
        server: ServerContext,
        listener: _socket.socket,
        serve: Serve,
        balance: AcceptBalance | None = None,
    ) -> None:
        self.listener = listener
        self._server = server
        self._serve = serve
        self._balance = balance
        self._watcher: Any = server.loop.io(listener.fileno(), READ)
        self._retry: Watcher | None = None
        self._delay = RETRY_FIRST
        self._full = False
        self._stopped = False
        self._is_paused = False
        server.registry.on_closed.append(self._something_closed)

    def pause(self) -> None:
        """Accept nothing until `start`: connections wait in the kernel's queue, or for other
        processes that accept from it."""
        self._is_paused = True
        self._leave_queue()

    def start(self) -> None:
        self._is_paused = False
        self._resume()

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._cancel_retry()
            self._leave_queue()
            self._watcher.close()
            self._server.registry.on_closed.remove(self._something_closed)

    def drain(self) -> None:
        self._is_paused = False
        for _ in range(DRAIN_MOST):
            if self._full or not self._accept():
                break

    def let_go(self) -> None:
        self.stop()
        self.listener.close()

    def close(self) -> None:
        self.stop()
        forget(self._server.loop, self.listener.fileno())
        self.listener.close()

    def _on_readable(self) -> None:
        allowance = ALONE if self._balance is None else self._balance.allowance()
        for _ in range(allowance):
            if not self._accept():
                break
        if self._balance is not None and not allowance:
            self._watcher.stop()
            self._balance.pause(self._balance_resumed)

    def _balance_resumed(self, still_waits: bool) -> None:
        self._watcher.start(self._on_readable)
        if still_waits or self._full:
            self._accept()

    def _accept(self) -> bool:
        # Accept one connection. False: there is none, or no room for it.
        if self._stopped or self._is_paused:  # stopped: the last connection's callback has forked
            return False
        server = self._server
        if server.registry.capacity_left <= 0:
            self._pause(server.registry.capacity_reason, retry=False)
            return False
        listener = self.listener
        try:
            # typeshed does not list it; accept() would make an object that is thrown away.
            descriptor, address = listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            self._caught_up()
            return False
        except OSError as error:
            if error.errno in PEER_GONE:
                return True
            if error.errno not in FULL:
                raise
            self._pause(f"accept: {error.strerror}", retry=True)
            return False
        socket = _socket.socket(listener.family, listener.type, listener.proto, fileno=descriptor)
        socket.setblocking(False)
        limit_send_buffer(socket, server.limits.kernel_send_buffer)
        server.row[ACCEPTED] += 1
        try:
            self._serve(socket, address)
        except BaseException:  # a user's protocol that cannot be made
            server.report_exception("cannot serve a connection from %s", address)
            socket.close()
        return True

    def _pause(self, why: str, retry: bool) -> None:
        if self._stopped:
            return
        self._leave_queue()
        if retry:
            self._try_later()
        if not self._full:
            self._full = True
            log.warning("%s: not accepting until a connection closes", why)

    def _try_later(self) -> None:
        if self._retry is None:
            self._retry = self._server.loop.timer(self._delay)
            self._retry.start(self._resume)
            self._delay = min(self._delay * 2, RETRY_MOST)

    def callback_failed(self) -> None:
        # See `loop_errors`: accept again, but not at once, for it may fail each time.
        if not self._stopped:
            self._leave_queue()
            self._full = True
            self._try_later()

    def _something_closed(self) -> None:
        if self._full:
            self._resume()

    def _resume(self) -> None:
        self._cancel_retry()
        if not (self._stopped or self._is_paused):
            self._watcher.start(self._on_readable)
            if self._balance is not None:
                self._balance.open()
            # An empty queue is not readable: accept once, or "accepting again" is never logged.
            if self._full:
                self._server.loop.run_callback(self._accept_if_full)

    def _accept_if_full(self) -> None:
        if self._full and not self._stopped and self._watcher.active:
            self._on_readable()

    def _leave_queue(self) -> None:
        self._watcher.stop()
        if self._balance is not None:
            self._balance.close()

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.stop()
            self._retry.close()
            self._retry = None

    def _caught_up(self) -> None:
        # The kernel's queue is empty: what was short is not short any more.
        if self._full:
            self._full = False
            self._delay = RETRY_FIRST
            log.info("accepting again")
