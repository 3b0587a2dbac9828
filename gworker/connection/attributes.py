"""The parts of a connection, and what its user can read of them.

Owns the slots. What a connection does with its parts is `connection.Connection`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gworker.app.callbacks import Callbacks, check_call
from gworker.connection.access_recorder import Observer
from gworker.connection.context import ServerContext
from gworker.connection.dispatcher import Job
from gworker.connection.migration import Migration
from gworker.connection.state import CLOSED, State
from gworker.connection.transport import Transport
from gworker.protocols.base import Protocol
from gworker.system import peer_address
from gworker.system.peer_address import Credentials, Proxied
from gworker.tls.socket import TlsInfo

if TYPE_CHECKING:
    from gworker.app.worker import Worker


def _callback(name: str) -> property:
    def read(self: Attributes) -> Any:
        return getattr(self.callbacks, name)

    def write(self: Attributes, function: Any) -> None:
        if function is not None:
            check_call(name, function, self)
        self.set_callback(name, function)

    return property(
        read, write, doc=f"`{name}` of this connection; setting it leaves the Worker's alone."
    )


class Attributes:
    """What a connection consists of."""

    __slots__ = (
        "__weakref__",
        "_context",
        "accepted_at",
        "callbacks",
        "event_job",
        "headers",
        "id",
        "idle_mark",
        "io",
        "lifecycle",
        "migration",
        "observer",
        "parser_paused",
        "protocol_machine",
        "request",
        "server_context",
    )

    id: int
    accepted_at: int  # seconds since the epoch
    request: Any
    headers: Any
    idle_mark: tuple[int, float] | None  # bytes_read when it was last seen idle, and since when
    server_context: ServerContext
    io: Transport
    protocol_machine: Protocol
    parser_paused: bool  # the protocol may have kept something back
    callbacks: Callbacks
    event_job: Job | None  # what waits for its turn; None: nothing does
    lifecycle: State
    migration: Migration | None  # while MIGRATING
    observer: Observer | None  # None: there is no access log
    _context: SimpleNamespace | None

    on_connect = _callback("on_connect")
    on_websocket_connect = _callback("on_websocket_connect")
    on_message = _callback("on_message")
    on_close = _callback("on_close")
    on_error = _callback("on_error")
    on_buffer_full = _callback("on_buffer_full")
    on_buffer_drain = _callback("on_buffer_drain")
    on_takeover = _callback("on_takeover")

    def set_callback(self, name: str, function: Any) -> None:
        """Give this connection a callback of its own."""
        if self.callbacks is self.server_context.worker.callbacks:
            self.callbacks = self.callbacks.copy()
        setattr(self.callbacks, name, function)

    def use_callbacks(self, callbacks: Callbacks) -> None:
        """Call the callbacks of another Worker than that of this process. Before `open`."""
        self.callbacks = callbacks.copy()

    def __repr__(self) -> str:
        return (
            f"<Connection {self.id} {self.protocol} {self.remote_address or 'unix'} {self.status}>"
        )

    @property
    def worker(self) -> Worker:
        """The Worker that it belongs to."""
        return self.server_context.worker

    @property
    def context(self) -> SimpleNamespace:
        """A namespace for the application."""
        if self._context is None:
            self._context = SimpleNamespace()
        return self._context

    @property
    def status(self) -> str:
        """`established`, `closing` or `closed`; `migrating` while another process takes it."""
        return self.lifecycle.status

    # ---- the peer

    @property
    def transport(self) -> str:
        """`tcp`, `unix`, or `ssl` for TLS on either."""
        return self.io.kind

    @property
    def tls(self) -> TlsInfo | None:
        """What TLS has agreed with the peer; None for a connection without."""
        return self.io.tls

    @property
    def peer_credentials(self) -> Credentials | None:
        """The process at the other end of a unix socket: (pid, uid, gid). None for other sockets,
        and once closed."""
        return self.io.peer_credentials

    @property
    def peer_closed(self) -> bool:
        """True once the peer has finished sending. It may still read: an answer that is due is sent
        to it."""
        return self.io.eof_received

    @property
    def remote_ip(self) -> str:
        """The peer's IP address; "" for unix sockets."""
        return peer_address.ip(self.io.remote)

    @property
    def remote_port(self) -> int:
        """The peer's port; 0 for unix sockets."""
        return peer_address.port(self.io.remote)

    @property
    def remote_address(self) -> str:
        """The peer as `HOST:PORT`; "" for unix sockets."""
        return peer_address.text(self.io.remote)

    @property
    def proxy_address(self) -> str:
        """The proxy that has named this client with the PROXY protocol, as `HOST:PORT`; "" if there
        is none.

        "unix" for one that has connected over a unix socket.
        """
        remote = self.io.remote
        if not isinstance(remote, Proxied):
            return ""
        return peer_address.text(remote.proxy) or "unix"

    @property
    def local_ip(self) -> str:
        """Our IP address; "" for unix sockets, and once the connection is closed."""
        return peer_address.ip(self.io.local)

    @property
    def local_port(self) -> int:
        """Our port; 0 for unix sockets, and once the connection is closed."""
        return peer_address.port(self.io.local)

    @property
    def local_address(self) -> str:
        """Our side as `HOST:PORT` or a path; "" once the connection is closed."""
        return peer_address.text(self.io.local)

    # ---- the protocol

    @property
    def protocol(self) -> str:
        """The name of its protocol."""
        return self.protocol_machine.name

    @property
    def max_package_size(self) -> int:
        """The largest message in bytes that the peer may send."""
        return self.protocol_machine.max_package_size

    @max_package_size.setter
    def max_package_size(self, size: int) -> None:
        self.protocol_machine.max_package_size = size

    @property
    def subprotocol(self) -> str:
        """The subprotocol of a WebSocket, "" without one. In on_websocket_connect it can be set to
        one that the client offers; ValueError for others."""
        return getattr(self.protocol_machine, "subprotocol", "")

    @subprotocol.setter
    def subprotocol(self, name: str) -> None:
        choose = getattr(self.protocol_machine, "choose_subprotocol", None)
        if choose is None:
            raise RuntimeError(f"the {self.protocol} protocol has no subprotocols")
        choose(name)

    @property
    def close_code(self) -> int | None:
        """What a WebSocket's peer said at the end (RFC 6455, 7.4.1): 1005 if it gave no code, 1006
        if it vanished.

        None before that, and for other protocols.
        """
        code: int | None = getattr(self.protocol_machine, "close_code", None)
        return (code or 1006) if code is not None and self.lifecycle is CLOSED else code or None

    @property
    def close_reason(self) -> str:
        """The words to `close_code`; "" without any."""
        return getattr(self.protocol_machine, "close_reason", "")

    # ---- what has come, and what waits

    @property
    def bytes_read(self) -> int:
        """Bytes that the peer has sent since it was accepted."""
        return self.io.bytes_read

    @property
    def bytes_written(self) -> int:
        """Bytes that the kernel has taken for the peer since it was accepted."""
        return self.io.bytes_written

    @property
    def recv_queue(self) -> int:
        """Bytes that were read while the handler was busy, and wait for it."""
        return 0 if self.event_job is None else self.event_job.unread_bytes

    @property
    def send_queue(self) -> int:
        """Bytes that wait to be sent."""
        return self.io.buffered

    @property
    def is_full(self) -> bool:
        """True while `send` refuses messages because `max_send_buffer_size` bytes wait."""
        return self.io.is_full

    @property
    def max_send_buffer_size(self) -> int:
        """Bytes that may wait to be sent before `send` refuses more."""
        return self.io.max_send_buffer_size

    @max_send_buffer_size.setter
    def max_send_buffer_size(self, size: int) -> None:
        self.io.max_send_buffer_size = size
