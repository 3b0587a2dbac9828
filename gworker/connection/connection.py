"""One accepted connection, as its user sees it.

An idle connection is this object and one started watcher; it holds no greenlet. It stands on
`Tended`, by which its process looks after it, that on `Moving`, which takes it to other processes,
that on `Dialogue`, which brings the peer's messages to the inbox, that on `Obedient`, which calls
the callbacks, and that on `Stream`, which knows bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from greenlet import getcurrent

from gworker.app.attribute_names import Strict, refuse_other_spellings
from gworker.app.callbacks import check_call
from gworker.connection.context import ServerContext
from gworker.connection.events import RESUME, Invoke
from gworker.connection.stream import CLOSED, ESTABLISHED, LEAVING, raw_bytes
from gworker.connection.tended import Tended
from gworker.errors import ErrorCode, SendBufferFull
from gworker.protocols.base import LARGE, Protocol
from gworker.system.peer_address import SocketAddress

if TYPE_CHECKING:
    import _socket

    from gworker.app.worker import Worker


def _callback(name: str) -> property:
    def read(self: Connection) -> Any:
        return getattr(self._callbacks, name)

    def write(self: Connection, function: Any) -> None:
        if function is not None:
            check_call(name, function, self)
        self.set_callback(name, function)

    return property(
        read, write, doc=f"`{name}` of this connection; setting it leaves the Worker's alone."
    )


class Connection(Tended, metaclass=Strict):
    """One accepted connection.

    id: unique in its instance, from 1 on, and kept by a handover. bytes_read, bytes_written: since
    it was accepted. request: the handshake's Request, for WebSocket. headers: in
    on_websocket_connect, (name, value) pairs or a mapping to add to the 101.
    max_send_buffer_size: bytes that may wait to be sent before `send` refuses more.
    """

    __slots__ = ("_context", "idle_mark")

    default_max_send_buffer_size: ClassVar[int] = 1024 * 1024
    default_max_package_size: ClassVar[int] = 10 * 1024 * 1024

    on_connect = _callback("on_connect")
    on_websocket_connect = _callback("on_websocket_connect")
    on_message = _callback("on_message")
    on_close = _callback("on_close")
    on_error = _callback("on_error")
    on_buffer_full = _callback("on_buffer_full")
    on_buffer_drain = _callback("on_buffer_drain")
    on_takeover = _callback("on_takeover")

    def __init__(
        self,
        service: ServerContext,
        socket: _socket.socket,
        remote: SocketAddress,
        protocol: Callable[[int], Protocol],
        id: int | None = None,
    ) -> None:
        limits = service.limits
        limit = limits.max_package_size or self.default_max_package_size
        super().__init__(service, socket, remote, protocol(limit), id)
        self.max_send_buffer_size = limits.max_send_buffer_size or self.default_max_send_buffer_size
        self.idle_mark: tuple[int, float] | None = None
        self._context: SimpleNamespace | None = None

    def open(self) -> None:
        """Begin: call on_connect, start reading. Once, from the hub."""
        if self._callbacks.on_connect is not None:
            self._put(Invoke("on_connect"))
        self._transport.start()
        self._service.isolate_errors(type(self)._begin)(self)
        if self._inbox is not None and self._job is None:
            self._service.pool.start(self)

    def _begin(self) -> None:
        """Ask the protocol what it is waiting for at first."""
        self._set_deadline()

    def pack(self) -> dict[str, Any]:
        return {**super().pack(), "context": self._context}

    def unpack(self, packed: dict[str, Any]) -> None:
        super().unpack(packed)
        self._context = packed["context"]

    # ---- what users see

    def __repr__(self) -> str:
        return (
            f"<Connection {self.id} {self.protocol} {self.remote_address or 'unix'} {self.status}>"
        )

    @property
    def worker(self) -> Worker:
        """The Worker that it belongs to."""
        return self._service.worker

    @property
    def protocol(self) -> str:
        """The name of its protocol."""
        return self._protocol.name

    @property
    def context(self) -> SimpleNamespace:
        """A namespace for the application."""
        if self._context is None:
            self._context = SimpleNamespace()
        return self._context

    @property
    def max_package_size(self) -> int:
        """The largest message in bytes that the peer may send."""
        return self._protocol.max_package_size

    @max_package_size.setter
    def max_package_size(self, size: int) -> None:
        self._protocol.max_package_size = size

    @property
    def subprotocol(self) -> str:
        """The subprotocol of a WebSocket, "" without one. In on_websocket_connect it can be set to
        one that the client offers; ValueError for others."""
        return getattr(self._protocol, "subprotocol", "")

    @subprotocol.setter
    def subprotocol(self, name: str) -> None:
        choose = getattr(self._protocol, "choose_subprotocol", None)
        if choose is None:
            raise RuntimeError(f"the {self.protocol} protocol has no subprotocols")
        choose(name)

    @property
    def close_code(self) -> int | None:
        """What a WebSocket's peer said at the end (RFC 6455, 7.4.1): 1005 if it gave no code, 1006
        if it vanished.

        None before that, and for other protocols.
        """
        code: int | None = getattr(self._protocol, "close_code", None)
        return (code or 1006) if code is not None and self._state is CLOSED else code or None

    @property
    def close_reason(self) -> str:
        """The words to `close_code`; "" without any."""
        return getattr(self._protocol, "close_reason", "")

    @property
    def recv_queue(self) -> int:
        """Bytes that were read while the handler was busy, and wait for it."""
        return self._backlog

    # ---- sending: in any greenlet

    @property
    def encoding(self) -> Hashable:
        """Of its protocol: connections with equal keys, not None, encode a message alike."""
        return self._protocol.encoding

    @property
    def accepts_unsolicited(self) -> bool:
        """True while it takes messages that answer nothing: it is open, and its protocol has
        such."""
        return (
            self._state is ESTABLISHED or self._state is LEAVING
        ) and self._protocol.accepts_unsolicited

    def encode(self, message: Any) -> bytes:
        """The bytes that `send(message)` would send. Raises TypeError or ValueError for what cannot
        be sent.

        RuntimeError where they depend on the connection (HTTP, WebSocket that is not open or keeps
        a context).
        """
        if self._protocol.encoding is None:
            raise RuntimeError(
                f"{self!r}: what its protocol makes of a message depends on the connection; use "
                "send()"
            )
        return self._protocol.encode(message)

    def send(self, data: Any, raw: bool = False) -> bool:
        """Send one message; with `raw`, bytes past the protocol. Never blocks.

        True: written or queued. False: refused, and on_error was told: the connection is gone, or
        its send buffer is full. Raises TypeError or ValueError for what the protocol cannot carry.
        """
        if self._state is not ESTABLISHED:
            return (
                self._send_later(data, raw)
                if self._state is LEAVING
                else self._refused("client closed")
            )
        outbox = self._transport.write_buffer
        if outbox is not None and 0 < outbox.size >= self.max_send_buffer_size:
            return self._refused("send buffer full and drop package")
        kind = data.__class__
        if (
            kind is not str
            and (kind is not bytes or len(data) >= LARGE)
            and not raw
            and (pieces := self._protocol.split(data)) is not None
        ):
            taken = self._write_both(*pieces)
        else:
            try:
                payload = raw_bytes(data) if raw else self._protocol.encode(data)
            except SendBufferFull:
                return self._refused("send buffer full and drop package")
            try:
                taken = self._write(payload)
            except TypeError:  # looked for afterwards: it would cost every message
                self._check_payload(payload)
                raise  # of something else
        if self._paused and self._job is not getcurrent():
            self._go_on()
        return taken

    def buffer_drained(self, was_full: bool) -> None:
        super().buffer_drained(was_full)
        if self._paused and self._state is not CLOSED:
            self._go_on()

    def _go_on(self) -> None:
        """What the protocol has kept back may go on now. From outside the job."""
        if self._job is None:
            self._deliver(RESUME)
        else:
            self._wake_handler()

    def close(self, data: Any = None, code: int = 1000, reason: str = "") -> None:
        """Send `data`, if any, and what is queued, then close. No message is delivered any more.

        code, reason: for protocols that say goodbye (RFC 6455, 7.4): 1000-1003, 1007-1014 and
        3000-4999, and at most 123 bytes of UTF-8; others raise ValueError. Before a handshake is
        answered it is refused, with `data` as the reply. An answer in pieces that has not begun is
        sent before; one that has begun is given `close_timeout`, and if its length was told, more
        as long as the peer takes something. A peer that takes too long is cut.
        """
        protocol = self._protocol
        protocol.check_close(code, reason)
        if self._state is LEAVING:
            self._close_later(data, code, reason)
            return
        if self._state is not ESTABLISHED:
            return
        if self._asking:
            self._asking = False
            if data is not None:
                protocol.refuse_handshake(data)
            self._close(protocol.data_to_send() or protocol.close(code))
            return
        if data is not None:
            protocol.closing = True  # an answer says that it is the last one (RFC 9112 section 9.6)
            self.send(data)
        if code == 1000 and protocol.is_sending:
            from gworker.connection.http_exchange import end_soon

            end_soon(self)
            return
        farewell = protocol.close(code, reason)
        if self._state is ESTABLISHED:
            self._close(farewell, awaiting=protocol.awaits_peer_close and farewell != b"")

    def _end_refused(self, message: str) -> None:
        self._end_with(ErrorCode.SEND_FAIL, message)

    def _end_with(self, code: ErrorCode, message: str) -> None:
        """Close at once, and call on_error, then on_close. In either a dialled one may begin anew,
        so it is closed before."""
        if self._job is getcurrent():
            self._finish(abort=True)
            self._call("on_error", code, message)  # on_close waits in the inbox
            return
        if self._callbacks.on_error is not None:
            self._put(Invoke("on_error", code, message))
        self._finish(abort=True)
        if self._inbox is not None and self._job is None:
            self._service.pool.start_soon(self)

    def close_timed_out(self) -> None:
        if self._state is ESTABLISHED:
            from gworker.connection.http_exchange import out_of_time

            out_of_time(self)
        else:
            super().close_timed_out()

    def switch(self, protocol: str | type[Protocol] | Protocol) -> None:
        """Go on with `protocol`, a name, class or instance: it gets all bytes behind the message in
        hand.

        Called in on_message, or in a connection handler between two `recv`. Raises RuntimeError if
        messages are decoded ahead of the handler: it needs `Worker(..., lockstep=True)`;
        LookupError for an unknown name.
        """
        from gworker.connection.switching import switch

        switch(self, protocol)

    def pipe(self, destination: Connection) -> None:
        """Forward every message to `destination`, no faster than it takes them; one end closes the
        other."""
        from gworker.connection.pipe import pipe

        pipe(self, destination)


refuse_other_spellings(Connection)
