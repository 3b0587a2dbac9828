"""The listeners of one worker process, and which kind of connection each of them makes."""

from __future__ import annotations

import _socket
import logging
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from gworker.app.callbacks import is_legacy
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.session import Session
from gworker.errors import ConfigError
from gworker.ipc.scoreboard import Scoreboard
from gworker.logs.access_recorder import kinds, legacy_kind
from gworker.master import listeners
from gworker.protocols import complete
from gworker.protocols import get as get_protocol
from gworker.protocols.base import Protocol
from gworker.protocols.http.head_buffer import HeadProtocol
from gworker.protocols.lockstep import lockstep
from gworker.server.accept_balance import Balance
from gworker.server.acceptor import Acceptor
from gworker.server.proxy_protocol import admitted
from gworker.server.socketserver_adapter import LegacyDatagrams, LegacyServer
from gworker.server.udp import Datagram, DatagramListener
from gworker.system import address as addresses
from gworker.system import fork_guard
from gworker.system.peer_address import SocketAddress
from gworker.system.unix_socket import Claim, UnixFile
from gworker.tls import unraisable
from gworker.tls.contexts import Contexts
from gworker.tls.handshake import Handshaker
from gworker.tls.key_files import Files, Held
from gworker.tls.options import WEB

log = logging.getLogger("gworker")


class Entrance:
    """All listeners of this process."""

    def __init__(
        self, service: ServerContext, board: Scoreboard, files: Files | None = None
    ) -> None:
        self._service = service
        self._is_sibling = partial(board.is_sibling, service.row)
        self.contexts = contexts_of(service.worker, files)
        """For TLS; None: its Worker says nothing of it."""
        self._listeners: list[Acceptor | DatagramListener] = []
        self._own: dict[Acceptor | DatagramListener, tuple[addresses.Address, Claim | None]] = {}
        """Those that only this process holds, with a claim if they have a file."""
        self._started = False

    def add(
        self,
        bound: Sequence[_socket.socket],
        url: str,
        shared: Scoreboard | None = None,
        declared: Worker | None = None,
    ) -> None:
        """Serve the sockets that are bound to one address, whose scheme `url` tells.

        shared: where the processes that accept from them as well are found; None: there are none.
        declared: whose protocol and callbacks the connections get; None: those of the Worker of
        this process.
        """
        declared = declared or self._service.worker
        made = [self._served(listener, url, bound[0], shared, declared) for listener in bound]
        self._listeners += made
        if self._started:
            for each in made:
                each.start()

    def _served(
        self,
        listener: _socket.socket,
        url: str,
        first: _socket.socket,
        shared: Scoreboard | None,
        declared: Worker,
    ) -> Acceptor | DatagramListener:
        """first: by which all processes that serve this address know each other."""
        if listener.type == _socket.SOCK_DGRAM:
            return self._datagrams(listener, url)
        service, balance = self._service, None
        if shared is not None:
            inode = os.fstat(first.fileno()).st_ino
            balance = Balance(shared, service.row, inode, listener.fileno(), service.loop)
        return Acceptor(
            service,
            listener,
            admitted(service, self._first_taker(listener, url, declared)),
            balance,
        )

    def _datagrams(self, listener: _socket.socket, url: str) -> DatagramListener:
        handler = self._service.worker.connection_handler
        if is_legacy(handler):
            return DatagramListener(self._service, listener, LegacyDatagrams(listener, handler))
        if handler is not None:
            raise ConfigError(
                f"{url}: a connection handler needs connections, and UDP has none; use on_message"
            )
        protocol = protocol_of(self._service.worker, url)
        if not protocol.over_datagrams:
            raise ConfigError(
                f"{url}: the {protocol.name} protocol needs connections, and UDP has none"
            )
        return DatagramListener(self._service, listener, partial(Datagram, protocol))

    def _first_taker(self, listener: _socket.socket, url: str, declared: Worker) -> Any:
        """What gets the newcomers of `listener`: with TLS, they shake hands first."""
        taker = self._taker(listener, url, declared)
        if not addresses.parse(url, declared.transport).tls:
            return taker
        if self.contexts is None:
            raise ConfigError(needs_tls(declared, url))
        implied = implied_alpn(declared, url)
        self.contexts.get(implied)  # what is wrong with it shows now
        unraisable.install()
        return Handshaker(self._service, partial(self.contexts.get, implied), taker)

    def _taker(self, listener: _socket.socket, url: str, declared: Worker) -> Any:
        service, handler = self._service, declared.connection_handler
        if is_legacy(handler):
            server, kind_of_legacy = LegacyServer(listener, handler), legacy_kind(service)

            def take_legacy(socket: _socket.socket, remote: SocketAddress) -> None:
                kind_of_legacy(service, server, socket, remote).open()

            return take_legacy
        plain = Session if handler is not None else Connection
        kind, protocol = kinds(service, plain, protocol_of(declared, url))
        service.idle.start(protocol.keeps_alive)

        def take(socket: _socket.socket, remote: SocketAddress) -> None:
            kind(service, socket, remote, protocol).open()

        def take_for_another(socket: _socket.socket, remote: SocketAddress) -> None:
            connection = kind(service, socket, remote, protocol)
            connection.use_callbacks(declared.callbacks)
            connection.open()

        return take if declared is service.worker else take_for_another

    def open(self, url: str, declared: Worker) -> str:
        """Bind `url` in this process and serve it; return the address with its port. Raises
        ConfigError.

        declared: whose protocol and callbacks the connections get.

        A unix socket's path leads here when this process accepts: it may yet fail, and its
        predecessor goes on then.
        """
        address = addresses.parse(url, declared.transport)
        if declared is not self._service.worker:
            _check_inner(declared, address)
        file, claim = UnixFile.of(declared.options), self._claim(address)
        sockets = listeners.bind_all(
            address, backlog=declared.backlog, shared=True, file=file, claim=claim
        )
        bound = listeners.bound_address(sockets[0], address)
        try:
            if self._started:
                take(address, claim)
            self.add(sockets, url, declared=declared)
        except ConfigError:
            for socket in sockets:
                socket.close()
            if claim is not None:
                claim.remove()
            raise
        self._own.update(dict.fromkeys(self._listeners[-len(sockets) :], (address, claim)))
        for socket in sockets:  # one of datagrams is open for longer than it is listened on
            fork_guard.on_fork(socket.close)
        return bound.url

    def _claim(self, address: addresses.Address) -> Claim | None:
        """To the path of a unix socket; None for others. Raises ConfigError for what no process can
        open itself."""
        if address.transport != "unix":
            return None
        if address.is_abstract:
            raise ConfigError(
                f"cannot listen on {address.url}: a process cannot open an abstract name itself, "
                "since no successor"
                " could while it is there: such a name cannot change hands as a path can"
            )
        if any(address.path == other.path for other, _ in self._own.values()):
            raise listeners.InUseError(
                f"cannot listen on {address.url}: this process listens on it already"
            )
        return Claim(address.path, self._is_sibling)

    def renew_certificates(self, held: Held) -> None:
        """Read them again; connections go on as they are. held: what this process may not read
        itself."""
        if self.contexts is not None:
            try:
                self.contexts.renew(held)
            except ConfigError as error:
                log.error("reload: the certificates stay as they were: %s", error)
            else:
                log.info("reload: the certificates were read again")

    def start(self) -> None:
        """Begin to accept. Raises ConfigError if the path of a unix socket is another program's
        meanwhile."""
        for address, claim in self._own.values():
            take(address, claim)
        self._started = True
        for listener in self._listeners:
            listener.start()

    def pause(self) -> None:
        """Take nobody until `resume`."""
        for listener in self._listeners:
            listener.pause()

    def resume(self) -> None:
        """Accept again."""
        for listener in self._listeners:
            listener.resume()

    def abandon(self) -> None:
        """This process fails to start: leave no files behind."""
        for _, claim in self._own.values():
            if claim is not None:
                claim.remove()

    def let_go(self) -> None:
        """In a process that user code has forked: listeners and their files are the parent's."""
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
        self.abandon()
        self._own.clear()
        self._listeners.clear()


def _check_inner(declared: Worker, address: addresses.Address) -> None:
    """Raise ConfigError for a Worker that only a process of its own could serve."""
    if declared.connection_handler is not None or address.tls or address.transport == "udp":
        raise ConfigError(
            f"{declared!r}: inside a process of another Worker it needs on_message, tcp or unix, "
            "and no TLS;"
            " declare it at module level to give it processes of its own"
        )


def take(address: addresses.Address, claim: Claim | None) -> None:
    """Have the path of a unix socket lead to this process. Raises ConfigError if it may not."""
    if claim is not None:
        with listeners.refusals(address):
            claim.take()


def protocol_of(declared: Worker, url: str) -> type[Protocol]:
    """The protocol class that `declared` speaks at `url`. Raises ConfigError if there is none of
    that name."""
    scheme = url.partition("://")[0].lower()
    found = protocol_class(declared.protocol or addresses.TLS_SCHEMES.get(scheme, scheme), url)
    return lockstep(found) if declared.options.get("lockstep") else found


def protocol_class(protocol: str | type[Protocol], url: str) -> type[Protocol]:
    """The class itself, or that of the name. Raises ConfigError if there is none, or it cannot
    receive anything."""
    try:
        if isinstance(protocol, type):
            return complete(protocol)
        return get_protocol("tcp" if protocol == "unix" else protocol)
    except (LookupError, TypeError) as error:
        raise ConfigError(f"address {url!r}: {error}") from None


def contexts_of(declared: Worker, files: Files | None = None) -> Contexts | None:
    """What `declared` needs for TLS; None if it says nothing of it."""
    options = declared.options.get("tls")
    return None if options is None else Contexts(options, f"Worker {declared.name!r}", files)


def needs_tls(declared: Worker, url: str) -> str:
    """What is said of an address with TLS and a Worker without."""
    expected = "tls={'certfile': ..., 'keyfile': ...}"
    return f"Worker {declared.name!r}: {url} needs a certificate: {expected}"


def implied_alpn(declared: Worker, url: str) -> tuple[str, ...]:
    """What is offered by ALPN, if the Worker does not say it."""
    if is_legacy(declared.connection_handler):
        return ()
    return WEB if issubclass(protocol_of(declared, url), HeadProtocol) else ()


def check_tls(declared: Worker, files: Files | None = None) -> None:
    """Load the certificates of `declared`. Raises ConfigError for what could not be used or does
    not fit."""
    url = declared.listen_url
    address = addresses.parse(url, declared.transport) if url else None
    contexts = contexts_of(declared, files)
    if address is not None and url is not None and address.tls != (contexts is not None):
        if contexts is None:
            raise ConfigError(needs_tls(declared, url))
        raise ConfigError(
            f"Worker {declared.name!r}: tls is given, and {url} is without TLS;"
            ' expected https, wss, tls or transport="ssl"'
        )
    if contexts is not None:
        contexts.get(implied_alpn(declared, url) if url else ())


def check(declared: Worker, files: Files | None = None) -> None:
    """Raise ConfigError for a Worker that could not be served: its protocol, handler and address do
    not fit.

    files: what reads its certificates.
    """
    if declared.protocol is not None and not isinstance(declared.protocol, str):
        _check_class(declared)
    if declared.listen_url is None:
        check_tls(declared, files)
        return
    handler = declared.connection_handler
    address = addresses.parse(declared.listen_url, declared.transport)
    for key in declared.options:
        if key.startswith("unix_") and address.transport != "unix":
            raise ConfigError(
                f"{declared!r}: {key} is for unix sockets, and it listens on {address.url}"
            )
    if declared.options.get("proxy_protocol") and address.transport == "udp":
        raise ConfigError(f"{declared!r}: proxy_protocol is for connections, and UDP has none")
    try:
        UnixFile.of(declared.options).check()
    except ConfigError as error:
        raise ConfigError(f"{declared!r}: unix_user or unix_group: {error}") from None
    if not is_legacy(handler):
        protocol = protocol_of(declared, declared.listen_url)
        if address.transport == "udp" and not protocol.over_datagrams:
            raise ConfigError(
                f"{declared!r}: the {protocol.name} protocol needs connections, and UDP has none"
            )
        if handler is not None and address.transport == "udp":
            raise ConfigError(
                f"{declared!r}: a connection handler needs connections, and UDP has none"
            )
    check_tls(declared, files)
    if handler is None and not declared.is_heard:
        log.warning(
            "%r has no on_message: whatever comes is thrown away, and requests are never answered",
            declared,
        )


def _check_class(declared: Worker) -> None:
    if not (isinstance(declared.protocol, type) and issubclass(declared.protocol, Protocol)):
        raise ConfigError(
            f"{declared!r}: protocol {declared.protocol!r} is neither a name nor a Protocol class"
        )
