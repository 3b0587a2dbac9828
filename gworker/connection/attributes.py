"""The parts of a connection, and what its user can read of them.

Owns the slots. What a connection does with its parts is `connection.Connection`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from weakref import WeakKeyDictionary

from gworker.app.callbacks import Callbacks
from gworker.app.handler_timeout import has_own_limit
from gworker.connection.access_recorder import Observer
from gworker.connection.callbacks import callback
from gworker.connection.closing import undecided
from gworker.connection.context import ServerContext
from gworker.connection.dispatcher import Job
from gworker.connection.migration import Migration
from gworker.connection.state import CLOSED, ESTABLISHED, MIGRATING, State
from gworker.connection.transport import Transport
from gworker.core import ConnectionState
from gworker.http.forwarded import Origin
from gworker.protocols.base import Protocol
from gworker.system import peer_address
from gworker.system.peer_address import Credentials, Proxied, SocketAddress
from gworker.tls.socket import TlsInfo

if TYPE_CHECKING:
    from gworker.app.worker import Worker
    from gworker.messages.membership import Membership

T = TypeVar("T")


class Passing(Generic[T]):
    """An attribute that is None but for moments. It has no slot, as every connection would have
    that."""

    def __init__(self) -> None:
        self._values: WeakKeyDictionary[Attributes, T] = WeakKeyDictionary()

    @overload
    def __get__(self, owner: None, _: object) -> Passing[T]: ...
    @overload
    def __get__(self, owner: Attributes, _: object) -> T | None: ...
    def __get__(self, owner: Attributes | None, _: object) -> Passing[T] | T | None:
        return self if owner is None else self._values.get(owner)

    def __set__(self, owner: Attributes, value: T | None) -> None:
        if value is None:
            self._values.pop(owner, None)
        else:
            self._values[owner] = value


class Attributes(ConnectionState):
    __slots__ = ("app_context", "idle_mark", "membership", "request")

    id: int
    accepted_at: int  # seconds since the epoch
    request: Any
    headers = Passing[Any]()
    idle_mark: tuple[int, float] | None  # bytes_read when it was last seen idle, and since when
    server_context: ServerContext
    io: Transport
    protocol_machine: Protocol
    parser_paused: bool  # the protocol may have kept something back
    callbacks: Callbacks
    event_job: Job | None  # what waits for its turn; None: nothing does
    lifecycle: State
    migration = Passing[Migration]()  # while MIGRATING
    observer: Observer | None  # None: there is no access log
    app_context: SimpleNamespace | None  # None: nothing was put there
    membership: Membership | None  # of groups and a user; None: it was never a member

    on_connect = callback("on_connect")
    on_websocket_connect = callback("on_websocket_connect")
    on_message = callback("on_message")
    on_close = callback("on_close")
    on_error = callback("on_error")
    on_buffer_full = callback("on_buffer_full")
    on_buffer_drain = callback("on_buffer_drain")
    on_takeover = callback("on_takeover")

    def set_callback(self, name: str, function: Any) -> None:
        # It has callbacks of its own from now on.
        if self.callbacks is self.server_context.worker.callbacks:
            self.callbacks = replace(self.callbacks)
        setattr(self.callbacks, name, function)
        if has_own_limit(function):
            self.server_context.limit_handlers()

    def use_callbacks(self, callbacks: Callbacks) -> None:
        """Call the callbacks of another Worker than that of this process. Before `open`."""
        self.callbacks = replace(callbacks)

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
        if self.app_context is None:
            self.app_context = SimpleNamespace()
        return self.app_context

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
        """The process at the other end of a unix socket: (pid, uid, gid); else None."""
        return self.io.peer_credentials

    @property
    def peer_closed(self) -> bool:
        """True once the peer has finished sending. An answer that is due is sent to it."""
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

    @property
    def origin(self) -> Origin | SocketAddress:
        return self.io.origin

    # ---- groups and users

    @property
    def client_id(self) -> str:
        """Its name in the whole cluster: an opaque str, which it keeps when it moves to another
        process. See `messages.send`."""
        client_id: str = self.server_context.messaging.client_id_of(self)
        return client_id

    @property
    def groups(self) -> list[str]:
        """The groups that it is a member of, in the order in which it joined them."""
        return [] if self.membership is None else self.membership.groups

    @property
    def uid(self) -> str | None:
        """The user to whom it is bound; None: to no user."""
        return None if self.membership is None else self.membership.uid

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

    # ---- for the parts of its process

    @property
    def unacknowledged(self) -> int:
        return self.io.unacknowledged

    @property
    def is_answering(self) -> bool:
        return self.protocol_machine.is_answering

    @property
    def awaits_answer(self) -> bool:
        return self.protocol_machine.awaits_answer

    @property
    def reconnects_at_once(self) -> bool:
        # True if the peer, sent away, is likely to connect again at once.
        return self.protocol_machine.reconnects_at_once

    @property
    def encoding(self) -> Hashable:
        """Connections whose protocols have equal keys, not None, encode a message alike."""
        return self.protocol_machine.encoding

    @property
    def accepts_unsolicited(self) -> bool:
        """True while it takes messages that answer nothing: it is open, and its protocol has
        such."""
        if self.lifecycle is not ESTABLISHED and self.lifecycle is not MIGRATING:
            return False
        return self.protocol_machine.accepts_unsolicited

    @property
    def is_opening(self) -> bool:
        # It takes messages, and keeps them until it is open.
        return self in undecided

    @property
    def may_join(self) -> bool:
        """False for plain HTTP, whose peers take answers only."""
        return not self.protocol_machine.keeps_alive or self in undecided

    @property
    def shakes_hands(self) -> bool:
        return self.protocol_machine.waiting_for() == "handshake"

    def fileno(self) -> int:
        return self.io.fileno()
