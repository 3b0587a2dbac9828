"""What an accepted socket has to pass before it becomes a connection: the header of the PROXY
protocol, and the number of connections per address.

`admission(server, serve)` puts these steps before `serve`, which is called as by an acceptor:
`serve(socket, remote)`. A step may keep the socket for a while; it is then in
`Registry.handshaking`, and a process does not end before it has passed or failed.
"""

from __future__ import annotations

import _socket
import logging

from gworker.config.trusted_proxies import Trust
from gworker.connection.address_limit import AddressLimit
from gworker.connection.context import ServerContext
from gworker.errors import ProtocolError
from gworker.protocols.proxies.haproxy import FIXED, MAX_REST, parse
from gworker.server.acceptor import Serve
from gworker.system.epoll import READ
from gworker.system.peer_address import Proxied, SocketAddress, text
from gworker.system.socket_options import RESET

log = logging.getLogger("gworker")


def admission(server: ServerContext, serve: Serve) -> Serve:
    """`serve`, with the steps before it that the settings of `server` ask for."""
    if server.registry.per_address.limit:
        serve = _with_address_limit(server.registry.per_address, serve)
    if server.proxies is not None:
        serve = _with_header(server, server.proxies, serve)
    return serve


def reset(socket: _socket.socket) -> None:
    """Close it at once, with a reset: it must not keep a socket of ours in TIME_WAIT."""
    try:
        socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, RESET)
    finally:
        socket.close()


def _with_address_limit(per_address: AddressLimit, serve: Serve) -> Serve:
    def check(socket: _socket.socket, remote: SocketAddress) -> None:
        if per_address.is_full(remote):
            per_address.refused += 1
            message = "%s has max_connections_per_address (%d) connections: refused one"
            log.warning(message, text(remote), per_address.limit)
            reset(socket)
        else:
            serve(socket, remote)

    return check


def _with_header(server: ServerContext, trusted: Trust, serve: Serve) -> Serve:
    # Reads the PROXY header of sockets from trusted peers, exactly; refuses all others.
    def check(socket: _socket.socket, remote: SocketAddress) -> None:
        if trusted.has_peer(remote):
            _AwaitingHeader(server, socket, remote, serve).begin()
        else:
            peer = text(remote) or "a unix socket"
            log.warning("refused a connection from %s: no trusted proxy", peer)
            reset(socket)

    return check


class _AwaitingHeader:
    __slots__ = ("_data", "_remote", "_serve", "_server", "_socket", "_watcher")

    def __init__(
        self, server: ServerContext, socket: _socket.socket, remote: SocketAddress, serve: Serve
    ) -> None:
        self._server = server
        self._socket = socket
        self._remote = remote
        self._serve = serve
        self._data = b""
        self._watcher = server.loop.io(socket.fileno(), READ)

    def begin(self) -> None:
        """Look whether the header is there, else wait for it."""
        self._server.registry.handshaking.add(self)
        self._server.timeouts.expect(self, "handshake")
        self._watcher.start(self._on_readable)
        self._on_readable()

    def _on_readable(self) -> None:
        # Look at what is there, and take of it what belongs to the header.
        before = len(self._data)
        try:
            data = self._data + self._socket.recv(FIXED + MAX_REST, _socket.MSG_PEEK)
            if len(data) == before:
                self._fail("it ended before its PROXY header" if data else "")
                return
            header = parse(data)
            self._socket.recv((len(data) if header is None else header.size) - before)
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as error:
            self._fail(error)
            return
        if header is None:
            self._data = data
            return
        self._leave()
        source, remote = header.source, self._remote
        remote = remote if source is None else Proxied(source, remote)
        try:
            self._serve(self._socket, remote)
        except BaseException:  # a user's protocol that cannot be made
            self._server.report_exception("cannot serve a connection from %s", text(remote))
            self._socket.close()
            self._server.registry.notify_closed()

    def deadline_passed(self) -> None:
        self._fail("no PROXY header in time")

    def destroy(self) -> None:
        self._fail("")

    callback_failed = destroy  # see `loop_errors`: a fault of ours costs this socket only

    def let_go(self) -> None:
        self._leave()
        self._socket.close()

    def _fail(self, why: str | Exception) -> None:
        registry = self._server.registry
        if self not in registry.handshaking:
            return
        self._leave()
        reset(self._socket)
        registry.notify_closed()
        if why:  # a health check of a proxy connects and closes: that is not worth a line
            peer = text(self._remote) or "at a unix socket"
            log.warning("refused a connection from the proxy %s: %s", peer, why)

    def _leave(self) -> None:
        self._watcher.stop()
        self._watcher.close()
        self._server.timeouts.expect(self, "")
        self._server.registry.handshaking.discard(self)
