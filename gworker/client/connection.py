"""A connection that this process dials, as its user sees it. Made by `gworker.connect`.

    CONNECTING ── dialled; the protocol has shaken hands ──► ESTABLISHED ──► CLOSING ──► CLOSED
        ▲  └──── the deadline, a failure, close() ─────────────────────────────────────► │
        └──────────────────────── RECONNECTING ◄── reconnect() ─────────────────────────┘

How it comes to be open is the business of its `Connector`; until then `io` is a `PendingTransport`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from operator import methodcaller
from typing import Any, ClassVar

import gevent

from gworker.app.callbacks import Callbacks
from gworker.client.connector import Connector, Dialled, Plan, backoff
from gworker.client.url import SERVERS_ONLY, WEBSOCKETS
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.dispatcher import Handler
from gworker.connection.events import CallbackFailed, ConnectionReset, ProtocolViolation
from gworker.connection.handlers import HANDLERS
from gworker.connection.pending_transport import PendingTransport, pending
from gworker.connection.state import CLOSED, RECONNECTING
from gworker.protocols.base import Control, Eof, Opened, Protocol
from gworker.system.address import authority


def _opened(connection: ClientConnection, event: Opened) -> None:
    io = pending(connection)
    if io is not None and io.inner is not None:
        connection.response = event.response
        connection.connector.opened(connection, io)


def _failure(why: Callable[[Any], str]) -> Handler:
    # Handle an event that ends the handshake, or a connection that is open.
    def handle(connection: ClientConnection, event: Control) -> None:
        io = pending(connection)
        if io is None or connection.lifecycle is CLOSED:
            HANDLERS[type(event)](connection, event)
        elif io.inner is not None:
            connection.connector.give_up(connection, why(event))
        # else the event is from before reconnect()

    return handle


class ClientConnection(Connection):
    """A dialled connection: the methods, attributes and callbacks of `Connection`, and `reconnect`.

    Callbacks are its own, not the Worker's. on_connect: it is open, with TLS and WebSocket after
    their handshakes. on_error(connection, ErrorCode.CONNECT_FAIL, reason): it could not be opened;
    on_close follows. status: "connecting" until it is open. response: the server's answer to a
    WebSocket handshake, with its headers. The id stays over `reconnect`; bytes_read and
    bytes_written begin anew. It is not in `worker.connections`, which holds those that were
    accepted, and it does not move to another process.

    What is sent before it is open is kept, up to `max_send_buffer_size`.
    """

    __slots__ = ("connector", "response")

    is_dialled = True
    handlers: ClassVar[dict[type, Handler]] = {
        **HANDLERS,
        Dialled: lambda connection, event: connection.connector.connected(connection, event),
        Opened: _opened,
        CallbackFailed: lambda connection, event: connection.connector.give_up(
            connection, event.reason
        ),
        ProtocolViolation: _failure(lambda event: str(event.error)),
        Eof: _failure(lambda _: "the server closed the connection during the handshake"),
        ConnectionReset: _failure(
            lambda event: event.reason or "the connection was reset during the handshake"
        ),
    }

    def __init__(self, server_context: ServerContext, plan: Plan) -> None:
        self.connector = Connector(plan, server_context.loop)
        self.response: Any = None
        most = plan.max_send_buffer_size or self.default_max_send_buffer_size
        size = plan.max_package_size or self.default_max_package_size
        self.io = self._pending_transport(most)
        super().__init__(server_context, None, None, lambda _: plan.protocol(size))
        self.callbacks = Callbacks()

    def _pending_transport(self, most: int) -> Any:  # it stands in the place of a Transport
        target = self.connector.plan.target
        kind = "ssl" if target.secure else target.transport
        joins = target.transport != "udp"
        return PendingTransport(self, self.connector.stop, kind, joins, most)

    def __repr__(self) -> str:
        return f"<ClientConnection {self.id} {self.connector.plan.target} {self.status}>"

    @property
    def remote_address(self) -> str:
        """The peer as `HOST:PORT`, a proxy if there is one; what is dialled, while it is not
        connected."""
        if self.io.remote is None:
            target = self.connector.plan.target
            return target.path or authority(target.host, target.port)
        return super().remote_address

    def switch(self, protocol: str | type[Protocol] | Protocol) -> None:
        """As of every connection; but the names of HTTP and WebSocket are those of a server's end:
        ValueError."""
        if isinstance(protocol, str) and (protocol in WEBSOCKETS or protocol in SERVERS_ONLY):
            raise ValueError(f"{self!r} cannot switch to {protocol!r}: that is the server's end")
        super().switch(protocol)

    def reconnect(
        self, after: float = 0, *, factor: float = 1.0, most: float = 60.0, jitter: float = 0.0
    ) -> None:
        """Dial again in `after` seconds, with this same object; usually called in on_close.

        factor, most: each attempt in a row that fails makes the delay `factor` times as long, up to
        `most` seconds. jitter: the part of the delay, from 0 to 1, by which it is longer or shorter
        at random, so that the clients of a server that comes back do not come all at once. What is
        sent meanwhile is kept. `close()` and `destroy()` cancel it. Raises RuntimeError while it is
        open or closing, ValueError for an argument out of range.
        """
        if not (0 <= after < math.inf and factor >= 1 and most >= 0 and 0 <= jitter <= 1):
            raise ValueError(
                "reconnect() takes after >= 0, factor >= 1, most >= 0 and jitter from 0 to 1"
            )
        if self.lifecycle is not CLOSED and self.lifecycle is not RECONNECTING:
            raise RuntimeError(
                f"{self!r} is not closed: call close() or destroy(), and reconnect() in on_close"
            )
        if self.server_context.dialling_over:
            return
        if self.lifecycle is CLOSED:
            self._revive()
        delay = backoff(after, factor, most, jitter, self.connector.failures)
        self.connector.dial_later(self, delay)

    def _revive(self) -> None:
        self.response = None
        self.io = self._pending_transport(self.max_send_buffer_size)
        self.protocol_machine = self.connector.plan.protocol(self.max_package_size)
        self.configure(self.protocol_machine)
        self.parser_paused = False
        self.lifecycle = RECONNECTING
        self.register()


def quiesce(service: ServerContext) -> None:
    """All that was accepted has ended: no message of what was dialled is handled any more. Handlers
    that run may finish."""
    for connection in service.registry.dialled.values():
        connection.on_message = None
        connection.pause_recv()


def close_all(service: ServerContext, seconds: float) -> None:
    """The process ends: close what it has dialled, politely, and wait `seconds` at most. Nothing is
    dialled then."""
    service.dialling_over = True
    close = service.isolate_errors(methodcaller("close"))
    for connection in list(service.registry.dialled.values()):
        close(connection)
    with suppress(gevent.Timeout), gevent.Timeout(seconds):
        while service.registry.dialled or service.is_at_work or service.lingerer.sockets:
            gevent.sleep(0.01)
