"""What an accepted socket has to pass before it becomes a connection: the PROXY header, the number
per address.

`admitted(service, take)` puts these steps before `take`, which is called in the same form as by an
acceptor: `take(socket, remote)`. A step may keep the socket for a while; it is then in
`service.newcomers`, and a process does not end before it has passed or failed.
"""

from __future__ import annotations

import logging
from _socket import MSG_PEEK, SO_LINGER, SOL_SOCKET
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gworker.connection.context import ServerContext
from gworker.connection.deadlines import Deadlines
from gworker.errors import ProtocolError
from gworker.protocols.proxies.haproxy import FIXED, MAX_REST, parse
from gworker.system.peer_address import Proxied, SocketAddress, text
from gworker.system.socket_options import RESET

if TYPE_CHECKING:
    import _socket

log = logging.getLogger("gworker")

Take = Callable[["_socket.socket", SocketAddress], None]


def admitted(service: ServerContext, take: Take) -> Take:
    """`take`, with the steps before it that the settings of `service` ask for."""
    if service.per_address is not None:
        take = _counted(service, take)
    if service.proxies is not None:
        take = ProxyStep(service, take)
    return take


def refuse(socket: _socket.socket) -> None:
    """Close it at once, with a reset: it shall not keep a socket of ours in TIME_WAIT."""
    try:
        socket.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
    finally:
        socket.close()


def _counted(service: ServerContext, take: Take) -> Take:
    per_address = service.per_address
    assert per_address is not None

    def count(socket: _socket.socket, remote: SocketAddress) -> None:
        if per_address.is_full(remote):
            per_address.refused += 1
            limit = service.limits.max_connections_per_address
            log.warning(
                "%s has max_connections_per_address (%d) connections: refused one",
                text(remote),
                limit,
            )
            refuse(socket)
        else:
            take(socket, remote)

    return count


class ProxyStep:
    """Reads the PROXY header of sockets from trusted peers, exactly; refuses all others."""

    def __init__(self, service: ServerContext, take: Take) -> None:
        self._service = service
        self._take = take
        self._deadlines = Deadlines(service.loop, _Waiting.too_late)

    def __call__(self, socket: _socket.socket, remote: SocketAddress) -> None:
        assert self._service.proxies is not None
        if not self._service.proxies.has_peer(remote):
            log.warning(
                "refused a connection from %s: no trusted proxy", text(remote) or "a unix socket"
            )
            refuse(socket)
            return
        waiting = _Waiting(self, socket, remote)
        self._service.newcomers.add(waiting)
        self._deadlines.set(waiting, self._service.limits.handshake_timeout)
        waiting.on_readable()

    def has(self, waiting: _Waiting) -> bool:
        """True until it has passed or failed."""
        return waiting in self._service.newcomers

    def leave(self, waiting: _Waiting) -> None:
        """It has passed or failed."""
        self._deadlines.clear(waiting)
        self._service.newcomers.discard(waiting)

    def passed(self, waiting: _Waiting, remote: SocketAddress) -> None:
        """The header was read: go on."""
        self.leave(waiting)
        try:
            self._take(waiting.socket, remote)
        except BaseException:  # a user's protocol that cannot be made
            self._service.report_exception("cannot serve a connection from %s", text(remote))
            waiting.socket.close()
            self.closed()

    def closed(self) -> None:
        """A descriptor is free: tell acceptors that wait for one."""
        self._service.tell_closed()


class _Waiting:
    """One socket whose header has not come yet, or not all of it."""

    __slots__ = ("_data", "_remote", "_step", "_watcher", "socket")

    def __init__(self, step: ProxyStep, socket: _socket.socket, remote: SocketAddress) -> None:
        self.socket = socket
        self._step = step
        self._remote = remote
        self._data = b""
        self._watcher: Any = step._service.loop.io(socket.fileno(), 1)
        self._watcher.start(self.on_readable)

    def on_readable(self) -> None:
        """Look at what is there, and take of it what belongs to the header."""
        before = len(self._data)
        try:
            data = self._data + self.socket.recv(FIXED + MAX_REST, MSG_PEEK)
            if len(data) == before:
                self._fail("it ended before its PROXY header" if data else "")
                return
            header = parse(data)
            self.socket.recv((len(data) if header is None else header.size) - before)
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as error:
            self._fail(error)
            return
        if header is None:
            self._data = data
            return
        self._forget()
        source = header.source
        self._step.passed(self, self._remote if source is None else Proxied(source, self._remote))

    def too_late(self) -> None:
        """It did not come in time."""
        self._fail("no PROXY header in time")

    def destroy(self) -> None:
        """The process ends."""
        self._fail("")

    def callback_failed(self) -> None:
        """See `loop_errors`: one newcomer less."""
        self._fail("")

    def let_go(self) -> None:
        """In a process that user code has forked: the parent goes on. No reset: the peer would
        hear it."""
        self._forget()
        self._step.leave(self)
        self.socket.close()

    def _fail(self, why: str | Exception) -> None:
        if not self._step.has(self):
            return
        self._forget()
        self._step.leave(self)
        refuse(self.socket)
        self._step.closed()
        if why:  # a proxy that looks whether somebody listens closes without a word
            log.warning(
                "refused a connection from the proxy %s: %s",
                text(self._remote) or "at a unix socket",
                why,
            )

    def _forget(self) -> None:
        self._watcher.stop()
        self._watcher.close()
