"""`socketserver` request handlers, unchanged: StreamRequestHandler, http.server,
DatagramRequestHandler.

Each connection has a greenlet of its own and a cooperative socket in `self.request`. There is no
protocol and no job: the handler's own blocking code reads and writes.
"""

from __future__ import annotations

import _socket
import logging
import os
import socketserver
from dataclasses import dataclass
from time import monotonic, time
from typing import Any

import gevent.socket
from greenlet import greenlet

from gworker.connection.context import ServerContext
from gworker.connection.cooperative_socket import TlsCountingSocket, cooperative, raw
from gworker.errors import HandlerTimeout
from gworker.server.udp import DatagramListener
from gworker.system import fork_guard, pktinfo
from gworker.system.peer_address import (
    Addresses,
    Credentials,
    SocketAddress,
    connected,
    credentials_of,
    local_of,
)
from gworker.system.socket_options import RESET, untaken
from gworker.tls.socket import TlsInfo, TlsSocket

log = logging.getLogger("gworker")

# A peer that has sent nothing for so long, when its process retires, is not in the middle of
# something.
SILENCE_SECONDS = 1.0

# Reads and writes of one handler after which other connections have their turn: with a peer that
# floods it, it never waits.
OPERATIONS = 32


class LegacyServer:
    """What a request handler may ask of `self.server`: the attributes of
    socketserver.BaseServer."""

    timeout: float | None = None
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(
        self, listener: _socket.socket, handler: type[socketserver.BaseRequestHandler]
    ) -> None:
        address = local_of(listener)
        self.server_address = address[:2] if isinstance(address, tuple) else address
        self.server_name, self.server_port = (
            address[:2] if isinstance(address, tuple) else (address, 0)
        )
        self.address_family = listener.family
        self.socket_type = listener.type
        self.socket = listener
        self.RequestHandlerClass = handler

    def fileno(self) -> int:
        return self.socket.fileno()

    def handle(self, request: object, remote: SocketAddress) -> None:
        """Run the handler for one connection or datagram. Raises what it raises."""
        # The stubs want socketserver's own server.
        self.RequestHandlerClass(request, remote, self)  # type: ignore[arg-type]


class LegacyConnection(Addresses):
    """A connection that is served by a socketserver class."""

    __slots__ = (
        "_heard", "_is_ended", "_legacy", "_observer", "_operations", "_remote", "_server",
        "_silent_since", "_socket", "accepted_at", "bytes_read", "bytes_written", "id", "idle_mark",
        "status", "transport",
    )  # fmt: skip

    protocol = "socketserver"
    send_queue = recv_queue = 0
    is_idle = is_held = is_resting = is_dialled = False
    unfinished = None
    migration_obstacle = "a socketserver handler"
    reconnects_at_once = False
    may_still_ask = True
    peer_closed = False

    def __init__(
        self,
        server: ServerContext,
        legacy: LegacyServer,
        socket: _socket.socket,
        remote: SocketAddress,
    ) -> None:
        self.id = server.registry.next_id()
        self.accepted_at = int(time())
        self.bytes_read = self.bytes_written = self._operations = 0
        self._heard = -1  # bytes that had come by then
        self._silent_since = 0.0  # since when nothing has come, as the process retires
        self._is_ended = False
        self.idle_mark: tuple[int, float] | None = None
        self.status = "established"
        in_clear = "tcp" if isinstance(connected(remote), tuple) else "unix"
        self.transport = "ssl" if isinstance(socket, TlsSocket) else in_clear
        self._server = server
        self._legacy = legacy
        self._remote = remote
        self._socket = cooperative(socket)
        self._socket.count = self.count
        self._observer = server.observer(None)
        server.registry.register(self, remote)
        server.registry.extra_descriptors += isinstance(self._socket, TlsCountingSocket)

    def __repr__(self) -> str:
        return f"<Connection {self.id} socketserver {self.remote_address or 'unix'} {self.status}>"

    def _local(self) -> SocketAddress:
        return local_of(self._socket)

    @property
    def origin(self) -> SocketAddress:
        return self._remote

    @property
    def tls(self) -> TlsInfo | None:
        return self._socket.secure.info if isinstance(self._socket, TlsCountingSocket) else None

    @property
    def peer_credentials(self) -> Credentials | None:
        return credentials_of(self._socket)

    @property
    def unacknowledged(self) -> int:
        return untaken(self._socket)

    @property
    def taken(self) -> int | None:
        """Bytes that the peer has taken so far; None: nothing waits for it."""
        left = self.unacknowledged
        return self.bytes_written - left if left else None

    def count(self, read: int, written: int) -> None:
        self.bytes_read += read
        self.bytes_written += written
        self._server.bytes_read += read
        self._server.bytes_written += written
        if read and (deadlines := self._server.handler_deadlines) is not None:
            deadlines.resume(deadlines.pause())  # from one read to the next
        self._operations += 1
        if self._operations >= OPERATIONS:
            self._operations = 0
            self._server.run_queue.wait()

    def open(self) -> None:
        self._server.pool.start(self)

    def run(self, _: greenlet) -> None:
        server = self._server
        if server.holder is not None:
            server.holder.hold(self)
        server.requests += 1
        try:
            server.intercepted("handler", LegacyConnection._serve, self)
        except HandlerTimeout:
            return  # it was logged as its time was up
        except (BrokenPipeError, ConnectionResetError) as error:  # most likely this peer has gone
            log.info("%r: %s", self, error)
        except BaseException:
            handler = self._legacy.RequestHandlerClass.__name__
            server.report_exception("%r: exception in %s", self, handler)
        finally:
            if self.status != "closed":
                self._finish()

    def _serve(self) -> None:
        self._legacy.handle(self._socket, self._remote)

    @property
    def waits_in_read(self) -> bool:
        """True while the handler waits for its peer to send something."""
        return self._socket.is_waiting

    def destroy(self) -> None:
        """Cut it: the handler's next read or write fails."""
        try:
            self._socket.shutdown(gevent.socket.SHUT_RDWR)
        except OSError:
            return

    def reset(self) -> None:
        """Cut it, with a reset: what waits for the peer is dropped, also in the kernel."""
        self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, RESET)
        self._socket.end(_socket.SHUT_RDWR)

    def probe(self) -> bool:
        return False  # nothing can be asked past the handler

    def notify_waiter(self) -> None:
        """The handler reads by itself: there is nothing to wake or to hold back."""

    hold_back = read_on = notify_waiter

    def end_between_messages(self, code: int, strict: bool) -> bool:
        return False

    def close(self, data: Any = None, code: int = 1000, reason: str = "") -> None:
        """Cut it: a handler that owns its socket has no other way to close."""
        self.destroy()

    def retire(self, code: int, patient: bool) -> bool:
        """A handler that owns its socket ends by itself, or at the deadline.

        One that waits for a silent peer finds the end of the stream, unless `patient`. True: that
        was now.
        """
        now = monotonic()
        if self.bytes_read != self._heard or not self._socket.is_waiting:
            self._heard, self._silent_since = self.bytes_read, now
        if patient or self._is_ended or now - self._silent_since < SILENCE_SECONDS:
            return False
        self._is_ended = True
        self._socket.end(_socket.SHUT_RD)
        return True

    def let_go(self) -> None:
        self._unregister()
        if isinstance(self._socket, TlsCountingSocket):
            self._socket.secure.let_go()
        if self._socket.fileno() != -1:  # the handler may have closed it
            _socket.close(gevent.socket.socket.detach(self._socket))

    def _unregister(self) -> None:
        server = self._server
        self.status = "closed"
        server.registry.unregister(self, self._remote)
        server.registry.extra_descriptors -= isinstance(self._socket, TlsCountingSocket)
        server.timeouts.forget(self)

    def flush_observer(self) -> None:
        if self._observer is not None:
            self._observer.closed(self)

    def _finish(self) -> None:
        self.flush_observer()
        server = self._server
        self._unregister()
        if isinstance(self._socket, TlsCountingSocket):
            self._socket.close()
            server.lingerer.close(self._socket.secure)
        elif self._socket.fileno() != -1:  # the handler may have closed it
            socket = raw(self._socket)
            if self._is_ended and not untaken(socket):  # nothing is on its way in either direction
                socket.close()
            else:
                server.lingerer.close(socket)
        server.registry.notify_closed()


class LegacyDatagrams:
    """Makes the jobs of a UDP socket whose datagrams a socketserver class handles."""

    def __init__(
        self, listener: _socket.socket, handler: type[socketserver.BaseRequestHandler]
    ) -> None:
        self._legacy = LegacyServer(listener, handler)
        self._socket = gevent.socket.socket(
            listener.family, listener.type, listener.proto, os.dup(listener.fileno())
        )
        fork_guard.on_fork(lambda: _socket.close(self._socket.detach()))

    def __call__(
        self, listener: DatagramListener, data: bytes, remote: Any, way: pktinfo.Way | None
    ) -> _DatagramJob:
        socket = self._socket if way is None else AnsweringSocket(self._socket, remote, way)
        return _DatagramJob(listener, self._legacy, (data, socket), remote)


@dataclass(eq=False, repr=False)
class AnsweringSocket:
    """The listener as one handler sees it: what it sends to its peer leaves from the address to
    which the peer has sent."""

    _socket: gevent.socket.socket
    _remote: Any
    _way: pktinfo.Way

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def sendto(self, data: bytes, *arguments: Any) -> int:
        """As socket.sendto(data[, flags], address)."""
        if arguments == (self._remote,):
            return pktinfo.send(self._socket, data, self._way, self._remote)
        return self._socket.sendto(data, *arguments)


@dataclass(slots=True, eq=False, repr=False)
class _DatagramJob:
    listener: DatagramListener
    legacy: LegacyServer
    request: tuple[bytes, Any]
    remote: Any

    def run(self, _: greenlet) -> None:
        server = self.listener.server
        server.requests += 1
        try:
            self.legacy.handle(self.request, self.remote)
        except BaseException:
            handler = self.legacy.RequestHandlerClass.__name__
            server.report_exception("exception in %s", handler)
        finally:
            self.listener.finished()
