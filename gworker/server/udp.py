"""UDP: one socket per process, one `Datagram` object per datagram that arrives.

A Datagram looks like a connection to its handler, which may be shared with tcp: it has addresses, a
context and `send`, which answers to where the datagram came from; what is about a flow finds
nothing to do. Handlers of different datagrams may run at the same time.
"""

from __future__ import annotations

import _socket
import errno
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NoReturn

from greenlet import greenlet

from gworker.app.attribute_names import refuse_other_spellings
from gworker.app.worker import Worker
from gworker.connection.context import ServerContext
from gworker.core.poller import Job
from gworker.errors import ErrorCode, HandlerTimeout, ProtocolError
from gworker.ipc.scoreboard import Column
from gworker.protocols.base import Protocol
from gworker.protocols.lockstep import messages
from gworker.protocols.tcp import UdpProtocol
from gworker.system import pktinfo
from gworker.system.epoll import READ
from gworker.system.event_loop import Watcher
from gworker.system.peer_address import Addresses, SocketAddress, local_of

log = logging.getLogger("gworker")

# What UDP can carry: 65 535 bytes with its header (RFC 768), over IPv4 with the one below it, too
# (RFC 791).
MAX_DATAGRAM = 65535
MAX_PAYLOAD = 65507
MAX_PAYLOAD_6 = 65527

BATCH = 64  # datagrams read per turn of the event loop

DRAIN_BATCHES = 64  # what is taken at the end, however fast more comes

RETRY_SECONDS = 0.1  # until it is read again after a fault of ours

MAX_JOBS = 1024  # handlers that may run at once; beyond that datagrams wait in the kernel's buffer


class DatagramListener:
    """The reading end of a UDP socket in this process. `make_job` turns a datagram into what
    handles it.

    A job says `finished()` when it has ended.
    """

    def __init__(self, server: ServerContext, socket: _socket.socket, make_job: MakeJob) -> None:
        self.socket = socket
        self.server = server
        self._make_job = make_job
        self._jobs = 0
        self._watcher = server.loop.io(socket.fileno(), READ)
        self._retry: Watcher | None = None
        self._reading = False
        self._receive = pktinfo.receive if pktinfo.ask(socket) else _receive

    def start(self) -> None:
        self._reading = True
        self._read_on()

    def pause(self) -> None:
        """Leave what comes to the kernel's buffer, or to other processes that read it, until
        `start`."""
        self._reading = False
        self._watcher.stop()

    def drain(self) -> None:
        for _ in range(DRAIN_BATCHES):
            if not self._on_readable():
                break

    def close(self) -> None:
        """Stop reading. The socket stays until the process ends: handlers that run may still
        answer."""
        self.pause()

    def let_go(self) -> None:
        self.close()
        self.socket.close()

    def finished(self) -> None:
        self._jobs -= 1
        if self._jobs == MAX_JOBS - 1:
            self._read_on()

    def callback_failed(self) -> None:
        # See `loop_errors`: read on, but not at once, for it may fail each time.
        self._retry = self.server.loop.timer(RETRY_SECONDS)
        self._retry.start(self._read_on)

    def _read_on(self) -> None:
        if self._reading:
            self._watcher.start(self._on_readable)

    def _on_readable(self) -> bool:
        # Start the jobs of one batch. False: there was nothing, or there is no room.
        for _ in range(min(BATCH, self.server.requests_per_turn)):
            if self._jobs >= MAX_JOBS:
                self._watcher.stop()
                return False
            try:
                data, address, way = self._receive(self.socket, MAX_DATAGRAM)
            except BlockingIOError:
                return False
            except OSError as error:  # an ICMP error for an answer that we sent (udp(7))
                log.debug("udp: %s", error)
                continue
            self.server.bytes_read += len(data)
            try:
                job = self._make_job(self, data, address, way)
            except BaseException:  # a user's protocol that cannot be made
                self.server.report_exception("cannot handle a datagram from %s", address)
                continue
            self._jobs += 1
            self.server.pool.start(job)
        return True


MakeJob = Callable[[DatagramListener, bytes, Any, pktinfo.Way | None], Job]


def _receive(socket: _socket.socket, size: int) -> tuple[bytes, Any, None]:
    # The next datagram of a socket that has one address only.
    return *socket.recvfrom(size), None


class Datagram(Addresses):
    """One datagram and the way back to its sender."""

    __slots__ = (
        "_data",
        "_listener",
        "_protocol",
        "_remote",
        "_way",
        "bytes_read",
        "bytes_written",
        "context",
        "id",
        "max_package_size",
        "max_send_buffer_size",
        "request",
    )

    transport = "udp"
    status = "established"
    accepts_unsolicited = True

    # What is about a flow.
    proxy_address = subprotocol = close_reason = ""
    peer_credentials = tls = close_code = None
    send_queue = recv_queue = 0
    peer_closed = False

    def __init__(
        self,
        protocol: type[Protocol],
        listener: DatagramListener,
        data: bytes,
        remote: Any,
        way: pktinfo.Way | None,
    ) -> None:
        limits = listener.server.limits
        self.id = listener.server.registry.next_id()
        self.max_package_size = limits.max_package_size or MAX_DATAGRAM
        self.max_send_buffer_size = limits.max_send_buffer_size or MAX_DATAGRAM
        self.request = None
        self.context = SimpleNamespace()
        self.bytes_read = len(data)
        self.bytes_written = 0
        self._listener = listener
        self._data = data
        self._remote: Any = remote
        self._way = way
        self._protocol = protocol(self.max_package_size)
        self._protocol.configure(listener.server.worker.options)

    def __repr__(self) -> str:
        return f"<Datagram {self.id} {self.protocol} {self.remote_address}>"

    def _local(self) -> SocketAddress:
        bound = local_of(self._listener.socket)
        return (
            (self._way[0], *bound[1:])
            if self._way is not None and isinstance(bound, tuple)
            else bound
        )

    @property
    def worker(self) -> Worker:
        return self._listener.server.worker

    @property
    def protocol(self) -> str:
        return self._protocol.name

    def run(self, _: greenlet) -> None:
        """Hand its messages to the user. In a pooled greenlet."""
        try:
            if not self._data and isinstance(self._protocol, UdpProtocol):
                # A datagram may be empty (RFC 768); for a protocol of streams that is the end.
                self._deliver(b"")
                return
            self._protocol.receive_data(self._data)
            for message in messages(self._protocol):
                self._deliver(message)
            if self._protocol.is_partial:
                log.info("%r: it ends within a message of the %s protocol", self, self.protocol)
        except ProtocolError as error:
            log.info("%r: %s", self, error)
        except HandlerTimeout:
            return  # it was logged as its time was up
        except BaseException:
            self._listener.server.report_exception("%r: exception in on_message", self)
        finally:
            self._listener.finished()

    def _deliver(self, message: Any) -> None:
        self._listener.server.requests += 1
        callback = self.worker.callbacks.on_message
        if callback is not None:
            self._listener.server.intercepted("on_message", callback, self, message)

    def send(self, data: Any, raw: bool = False) -> bool:
        """Answer the sender with one datagram. False: the kernel refused it, and on_error was
        told."""
        server = self._listener.server
        payload = data if raw else self._protocol.encode(data)
        try:
            sent = pktinfo.send(self._listener.socket, payload, self._way, self._remote)
        except OSError as error:
            server.row[Column.SEND_FAILURES] += 1
            callback = self.worker.callbacks.on_error
            if callback is not None:
                reason = _reason(error, len(payload), self.remote_ip)
                server.intercepted("on_error", callback, self, ErrorCode.SEND_FAIL, reason)
            return False
        self.bytes_written += sent
        server.bytes_written += sent
        return True

    def close(self, data: Any = None, code: int = 1000, reason: str = "") -> None:
        """Send `data`, if any. There is nothing to close."""
        if data is not None:
            self.send(data)

    # ---- what is about a flow: none is held back, and nothing waits

    def encode(self, message: Any) -> bytes:
        """The bytes that `send(message)` would send. Raises TypeError or ValueError for what cannot
        be sent."""
        return self._protocol.encode(message)

    def drain(self, timeout: float | None = None) -> bool:
        return True

    def destroy(self) -> None:
        """There is nothing to close."""

    def pause_recv(self) -> None:
        """There is nothing that would be read on."""

    def resume_recv(self) -> None:
        """Nothing was held back."""

    def switch(self, protocol: Any) -> None:
        """Raises RuntimeError: nothing follows that another protocol could read."""
        raise RuntimeError(
            f"{self!r} is one datagram: nothing follows that {protocol!r} could go on with"
        )

    def join(self, group: str, *, since: str | None = None, presence: Any = None) -> NoReturn:
        """Raises TypeError: there is nothing that could be a member."""
        raise TypeError(f"{self!r} is one datagram: it cannot join the group {group!r}")

    def bind(self, uid: str | int, *, single: bool = False) -> NoReturn:
        """Raises TypeError: there is nothing that could be bound."""
        raise TypeError(f"{self!r} is one datagram: it cannot be bound to the user {uid!r}")

    def pipe(self, destination: Any) -> None:
        """Raises TypeError: nothing follows that could be forwarded. Send `destination` the message
        itself."""
        raise TypeError(
            f"{self!r} is one datagram: send it to {destination!r}, there is nothing to pipe"
        )


def _reason(error: OSError, size: int, receiver: str) -> str:
    # The reason that on_error gets.
    if error.errno == errno.EMSGSIZE:
        most = (
            MAX_PAYLOAD_6 if ":" in receiver and not receiver.startswith("::ffff:") else MAX_PAYLOAD
        )
        return f"a datagram carries at most {most} bytes, not {size}"
    return str(error.strerror)


refuse_other_spellings(Datagram)
