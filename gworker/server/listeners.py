"""The listeners of one worker process, and which kind of connection each of them makes."""

from __future__ import annotations

import _socket
import logging
import os
from collections.abc import Sequence
from functools import partial

from gworker.app.callbacks import is_legacy
from gworker.app.validation import (
    check_inner,
    contexts_of,
    datagram_protocol,
    implied_alpn,
    needs_tls,
    protocol_of,
)
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.errors import ConfigError
from gworker.ipc.scoreboard import Scoreboard
from gworker.server.accept_balance import AcceptBalance
from gworker.server.acceptor import Acceptor, Serve
from gworker.server.proxy_protocol import admission
from gworker.server.socketserver_adapter import LegacyConnection, LegacyDatagrams, LegacyServer
from gworker.server.tls_accept import TlsAccept
from gworker.server.udp import Datagram, DatagramListener, MakeJob
from gworker.system import address as addresses
from gworker.system import fork_guard
from gworker.system.address import Address
from gworker.system.bind import InUseError, bind_all, bound_address
from gworker.system.peer_address import SocketAddress
from gworker.system.unix_socket import UnixFile, remove
from gworker.tls.key_files import Held

log = logging.getLogger("gworker")

PATH_OF_ONES_OWN = (
    "each process needs a path of its own, as with os.getpid() in it: its successor starts before "
    "it ends"
)


class WorkerListeners:
    def __init__(self, server: ServerContext, held: Held | None = None) -> None:
        self._server = server
        self.contexts = contexts_of(server.worker, held)  # for TLS; None: the Worker has no `tls`
        self._listeners: list[Acceptor | DatagramListener] = []
        # Those that this process has bound itself: where, and the file of a unix socket.
        self._own: dict[Acceptor | DatagramListener, tuple[Address, os.stat_result | None]] = {}
        self._started = False

    def add(
        self,
        bound: Sequence[_socket.socket],
        url: str,
        shared: Scoreboard | None = None,
        declared: Worker | None = None,
    ) -> None:
        """Serve the sockets that are bound to one address, whose scheme `url` tells.

        shared: the scoreboard of the processes that accept from them too; None: there are none.
        declared: the Worker whose protocol and callbacks the connections get; None: that of this
        process. Raises ConfigError.
        """
        declared = declared or self._server.worker
        made = [self._listener(socket, url, bound[0], shared, declared) for socket in bound]
        self._listeners += made
        if self._started:
            for each in made:
                each.start()

    def _listener(
        self,
        socket: _socket.socket,
        url: str,
        first: _socket.socket,
        shared: Scoreboard | None,
        declared: Worker,
    ) -> Acceptor | DatagramListener:
        # first: the socket by whose inode the processes that serve this address find each other.
        if socket.type == _socket.SOCK_DGRAM:
            return self._datagram_listener(socket, url)
        server, balance = self._server, None
        if shared is not None:
            inode = os.fstat(first.fileno()).st_ino
            balance = AcceptBalance(shared, server.row, inode, socket.fileno(), server.loop)
        serve = self._with_tls(self._connection_maker(socket, url, declared), url, declared)
        return Acceptor(server, socket, admission(server, serve), balance)

    def _datagram_listener(self, socket: _socket.socket, url: str) -> DatagramListener:
        handler = self._server.worker.connection_handler
        make_job: MakeJob = (
            LegacyDatagrams(socket, handler)
            if is_legacy(handler)
            else partial(Datagram, datagram_protocol(self._server.worker, url, url))
        )
        return DatagramListener(self._server, socket, make_job)

    def _with_tls(self, serve: Serve, url: str, declared: Worker) -> Serve:
        if not addresses.parse(url, declared.transport).tls:
            return serve
        if self.contexts is None:
            raise ConfigError(needs_tls(declared, url))
        implied = implied_alpn(declared, url)
        self.contexts.get(implied)  # raises now what would fail every handshake
        return TlsAccept(self._server, partial(self.contexts.get, implied), serve)

    def _connection_maker(self, listener: _socket.socket, url: str, declared: Worker) -> Serve:
        server, handler = self._server, declared.connection_handler
        if declared.wsgi is not None:
            # what serves no application loads none of it
            from gworker.wsgi.host import install

            address = addresses.parse(url, declared.transport)
            install(declared, bound_address(listener, address), bool(server.forwarders))
        if is_legacy(handler):
            legacy = LegacyServer(listener, handler)

            def serve_legacy(socket: _socket.socket, remote: SocketAddress) -> None:
                LegacyConnection(server, legacy, socket, remote).open()

            return serve_legacy
        protocol = protocol_of(declared, url)
        server.timeouts.idle.start(protocol.keeps_alive)

        def serve(socket: _socket.socket, remote: SocketAddress) -> None:
            connection = Connection(server, socket, remote, protocol)
            connection.observe()
            if declared is not server.worker:
                connection.use_callbacks(declared.callbacks)
            connection.open(handler)

        return serve

    def open(self, url: str, declared: Worker) -> str:
        """Bind `url` in this process and serve it; return the address with its port.

        declared: the Worker whose protocol and callbacks the connections get. Raises ConfigError,
        also for the path of a unix socket on which a process listens: it cannot pass from a
        process to its successor, which starts before that ends.
        """
        address = addresses.parse(url, declared.transport)
        if declared is not self._server.worker:
            check_inner(declared, address)
        is_unix = address.transport == "unix"
        if is_unix and any(address.path == own.path for own, _ in self._own.values()):
            raise InUseError(f"cannot listen on {address.url}: this process listens on it already")
        file = UnixFile.of(declared.options)
        try:
            sockets = bind_all(address, backlog=declared.backlog, shared=True, file=file)
        except InUseError as error:
            if not is_unix:
                raise
            raise InUseError(f"{error}; {PATH_OF_ONES_OWN}") from None
        made = os.lstat(address.path) if is_unix and not address.is_abstract else None
        try:
            self.add(sockets, url, declared=declared)
        except ConfigError:
            for socket in sockets:
                socket.close()
            remove(address.path, made)
            raise
        self._own.update(dict.fromkeys(self._listeners[-len(sockets) :], (address, made)))
        for socket in sockets:  # one of datagrams is open for longer than it is listened on
            fork_guard.on_fork(socket.close)
        return bound_address(sockets[0], address).url

    def reread_certificates(self, held: Held) -> None:
        """Read them again; connections go on as they are. held: files that this process may not
        read itself."""
        if self.contexts is not None:
            try:
                self.contexts.reread(held)
            except ConfigError as error:
                log.error("reload: the certificates stay as they were: %s", error)
            else:
                log.info("reload: the certificates were read again")

    def start(self) -> None:
        self._started = True
        for listener in self._listeners:
            listener.start()

    def pause(self) -> None:
        for listener in self._listeners:
            listener.pause()

    def remove_files(self) -> None:
        """Remove the files of the unix sockets that this process has bound itself."""
        for address, made in self._own.values():
            remove(address.path, made)

    def release_all(self) -> None:
        for listener in self._listeners:
            listener.let_go()
        self._listeners.clear()
        self._own.clear()

    def close(self, take_queued: bool) -> None:
        """Stop accepting; with `take_queued`, after taking what waits in the kernel's queues."""
        for listener in self._listeners:
            if take_queued or listener in self._own:
                listener.drain()
            listener.close()
        self.remove_files()
        self._own.clear()
        self._listeners.clear()
