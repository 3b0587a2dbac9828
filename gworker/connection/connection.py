"""A connection: what its user, its transport and its process can do with it.

An idle connection is this object, its transport and its protocol; it holds no greenlet. What the
transport reads goes through the protocol into the job (`receiving`), and the job calls the
callbacks (`dispatcher`). `closing.end` is the one door to the end.
"""

from __future__ import annotations

import _socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from greenlet import getcurrent

from gworker.app.attribute_names import Strict, refuse_other_spellings
from gworker.connection import callbacks, closing, migration, progress, receiving, retiring, sending
from gworker.connection.attributes import Attributes
from gworker.connection.context import ServerContext
from gworker.connection.dispatcher import Handler, Job, answer
from gworker.connection.events import CONNECTION_RESET, CallCallback
from gworker.connection.handler_job import HandlerJob, begin
from gworker.connection.handlers import HANDLERS
from gworker.connection.pending_transport import drain
from gworker.connection.state import (
    CLOSED,
    CONNECTING,
    DETACHED,
    ESTABLISHED,
    RECONNECTING,
    PauseReason,
    State,
)
from gworker.connection.transport import Transport
from gworker.core import accelerate, accelerated_send
from gworker.http.headers import HeaderSource
from gworker.protocols.base import HttpEvent, Protocol
from gworker.system.peer_address import SocketAddress
from gworker.tls.socket import TlsSocket

if TYPE_CHECKING:
    from gworker.connection.greenlets import ConnectionGreenlet
    from gworker.connection.lent_socket import LentSocket
    from gworker.messages.membership import Joined


def _http(connection: Any, event: HttpEvent) -> None:
    # The first event of HTTP: the handlers of all of them are loaded, which others do without.
    from gworker.connection.http_exchange import HTTP_HANDLERS

    Connection.handlers.update(HTTP_HANDLERS)
    HTTP_HANDLERS[type(event)](connection, event)


class Connection(Attributes, metaclass=Strict):
    """One connection.

    id: unique in its instance, from 1 on; a handover keeps it. request: of a WebSocket's handshake.
    headers: in on_websocket_connect, (name, value) pairs or a mapping to add to the 101.
    """

    __slots__ = ()

    is_dialled: ClassVar[bool] = False
    default_max_send_buffer_size: ClassVar[int] = 1024 * 1024
    default_max_package_size: ClassVar[int] = 10 * 1024 * 1024

    handlers: ClassVar[dict[type, Handler]] = {**HANDLERS, HttpEvent: _http}

    def __init__(
        self,
        server_context: ServerContext,
        socket: _socket.socket | None,
        remote: SocketAddress,
        protocol: Callable[[int], Protocol],
        id: int | None = None,
    ) -> None:
        limits = server_context.limits
        self.id = server_context.registry.next_id() if id is None else id
        self.accepted_at = int(time.time())
        self.request = self.idle_mark = self.app_context = self.membership = None
        self.event_job = self.observer = None
        self.parser_paused = False
        self.lifecycle = CONNECTING if self.is_dialled else ESTABLISHED
        self.server_context = server_context
        self.callbacks = server_context.worker.callbacks
        self.protocol_machine = protocol(limits.max_package_size or self.default_max_package_size)
        most = limits.max_send_buffer_size or self.default_max_send_buffer_size
        if socket is not None:  # a connection that is dialled comes with its own transport
            self.io = Transport(server_context, self, socket, remote, most)
        # A user's protocol may raise: nothing knows of this connection yet.
        self.configure(self.protocol_machine)
        self.register()

    def configure(self, protocol: Protocol) -> None:
        if self.is_dialled:
            protocol.configure({})
        else:
            self.server_context.configure_protocol(protocol, self.io)

    def register(self) -> None:
        self.server_context.registry.register(self, self.io.remote)

    def open(self, handler: Callable[[Any], object] | None = None) -> None:
        """Begin: start reading, call on_connect or run `handler`, a connection handler. Once, from
        the hub."""
        server = self.server_context
        if handler is not None:
            self.event_job = HandlerJob(self, handler)
        elif self.callbacks.on_connect is not None:
            self.enqueue(CallCallback("on_connect"))
        try:
            self.io.read_on()
        except OSError:  # the kernel has no room for one more in the set (epoll_ctl(2))
            self.destroy()
            raise
        server.isolate_errors(begin)(self)
        job = self.event_job
        if job is not None and job.greenlet is None:
            server.pool.start_soon(job)

    # ---- what its parts do

    enqueue = callbacks.enqueue
    post = callbacks.post
    wake = callbacks.wake
    call = callbacks.call
    notify = callbacks.notify
    buffer_full = callbacks.buffer_full
    tell_drained = callbacks.tell_drained
    handler_failed = callbacks.handler_failed
    continue_parsing = callbacks.continue_parsing

    data_received = receiving.data_received
    buffer_received = receiving.buffer_received
    parse = receiving.parse
    may_parse = receiving.may_parse
    deadline_passed = receiving.deadline_passed
    body_stalled = receiving.body_stalled

    send = accelerated_send(sending.send)
    write = sending.write
    write_failed = sending.write_failed
    write_progress = sending.write_progress
    buffer_drained = sending.buffer_drained
    write_output = sending.write_output
    reject_send = sending.reject_send

    begin_close = closing.begin_close
    close_timed_out = closing.close_timed_out
    fail = closing.fail
    end = closing.end
    flush_observer = closing.flush_observer
    let_go = closing.let_go

    is_idle = property(progress.is_idle)
    is_held = property(progress.is_held)
    is_resting = property(progress.is_resting)
    unfinished = property(progress.unfinished)
    body_progress = property(progress.body_progress)
    taken = property(progress.taken)

    may_still_ask = property(retiring.may_still_ask)
    retire = retiring.retire
    end_between_messages = retiring.end_between_messages
    hold_back = retiring.hold_back
    read_on = retiring.read_on
    is_silent = retiring.is_silent
    probe = retiring.probe
    expire = retiring.expire

    migration_obstacle = property(migration.obstacle)
    is_movable = property(migration.is_movable)
    suspend = migration.suspend
    resume = migration.resume
    forget = migration.forget
    activate = migration.activate
    state = migration.state
    restore = migration.restore

    # ---- sending: in any greenlet

    def encode(self, message: Any) -> bytes:
        """The bytes that `send(message)` would send. Raises TypeError or ValueError for what cannot
        be sent.

        RuntimeError where they depend on the connection (HTTP, WebSocket that is not open or keeps
        a context).
        """
        if self.protocol_machine.encoding is None:
            raise RuntimeError(
                f"{self!r}: what its protocol makes of a message depends on the connection; use "
                "send()"
            )
        return self.protocol_machine.encode(message)

    def ping(self, payload: bytes = b"") -> bool:
        """Send a Ping of a WebSocket (RFC 6455, 5.5.2); its peer answers it by itself. Never
        blocks.

        payload: at most 125 bytes, else ValueError. False: it is gone, or not open yet.
        RuntimeError for a protocol that has no pings.
        """
        return sending.ping(self, payload)

    def send_informational(self, status: int, headers: HeaderSource = ()) -> bool:
        """Send an informational answer to the HTTP request in hand, before the final one: 102, or
        103 with what the client may load already (RFC 8297). Never blocks.

        False: it was not sent, as the client speaks HTTP/1.0, or the answer has begun, or the
        client has gone. Raises ValueError for a status that is none of 102 to 199, and for what is
        no header field; RuntimeError for another protocol than HTTP.
        """
        return sending.send_informational(self, status, headers)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until everything is sent. False: `timeout` seconds passed, or the connection is
        gone.

        One that is dialled is open first; False at once in its own callbacks before that, as it
        opens after them.
        """
        deadlines = self.server_context.handler_deadlines
        if deadlines is None:
            return drain(self, timeout) and self.lifecycle is not CLOSED
        paused = deadlines.pause()
        try:
            return drain(self, timeout) and self.lifecycle is not CLOSED
        finally:
            deadlines.resume(paused)

    # ---- groups and users: all processes of the cluster know them

    def join(self, group: str, *, since: str | None = None, presence: Any = None) -> Joined:
        """Become a member of a group: `messages.publish` reaches it from now on, until it leaves or
        ends.

        group: 1 to 200 bytes of UTF-8. since: the position that its peer has seen last, of a group
        that is declared as "recoverable": what it missed is sent first. presence: JSON of at most
        1 KiB that `messages.members` shows. Joining again changes it.

        While the broker is down, it is a member of this process's part of the group, and of the
        whole once it is up. Raises TypeError for a peer of plain HTTP, and for what is no name or
        no JSON, ValueError for a name or a presence that is too long, and with `since`
        `gworker.BrokerDown`. Waits at most 2 seconds for the broker.
        """
        joined: Joined = self.server_context.messaging.members.join(self, group, since, presence)
        return joined

    def leave(self, group: str) -> None:
        """Leave a group. Nothing happens if it is no member."""
        self.server_context.messaging.members.leave(self, group)

    def bind(self, uid: str | int, *, single: bool = False) -> None:
        """Say which user is at the other end: `messages.send_to_user` reaches it from now on.

        uid: 1 to 200 bytes of UTF-8; an int becomes its decimals. A user may be at any number of
        connections; a connection has one user, the last one. single: the others of this user are
        closed with 4001; of several such calls the last one wins. Raises as `join` does.
        """
        self.server_context.messaging.members.bind(self, uid, single)

    def unbind(self) -> None:
        """The user is there no longer."""
        self.server_context.messaging.members.unbind(self)

    # ---- receiving

    def recv(self, timeout: float | None = None) -> Any:
        """Wait for the next message and return it; None when the peer has finished.

        An answer in pieces is sent here, too, and the time that it takes does not count. Raises
        TimeoutError after `timeout` seconds of waiting, RuntimeError outside the connection's
        handler.
        """
        job = self.event_job
        if not isinstance(job, HandlerJob) or not job.is_current:
            raise RuntimeError("recv() belongs to the connection's own handler")
        return job.next_message(timeout)

    def __iter__(self) -> Iterator[Any]:
        """All messages until the peer has finished."""
        while (message := self.recv()) is not None:
            yield message

    def pause_recv(self) -> None:
        """Stop reading; the kernel then holds the peer back."""
        if self.migration is not None:
            self.migration.defer("pause_recv")
        self.io.pause(PauseReason.USER)

    def resume_recv(self) -> None:
        """Go on reading."""
        if self.migration is not None:
            self.migration.defer("resume_recv")
        was_paused = self.io.pause_reasons & PauseReason.USER
        self.io.resume(PauseReason.USER)
        if was_paused and self.lifecycle is ESTABLISHED:  # the peer has lost none of its time
            owed = self.protocol_machine.waiting_for()
            self.server_context.timeouts.restart(self, owed)

    def switch(self, protocol: str | type[Protocol] | Protocol) -> None:
        """Go on with `protocol`, a name, class or instance: it gets all bytes behind the message in
        hand.

        Called in on_message, or in a connection handler between two `recv`. Raises RuntimeError if
        messages are decoded ahead of the handler: it needs `Worker(..., lockstep=True)`;
        LookupError for an unknown name.
        """
        from gworker.connection.switching import switch

        switch(self, protocol)

    def detach(self) -> LentSocket:
        """Give its socket away, for code that speaks a protocol of its own: a cooperative socket,
        which blocks, and whose `recv` gives first what was read ahead. Waits until everything is
        sent.

        From here on this object is the socket's: it takes nothing and gives nothing, counts as
        busy, and stays in its process. `close` and `destroy` let the socket find the end of the
        stream; closing the socket ends the connection, and on_close is called. Over TLS the socket
        has the methods of ssl.SSLSocket for reading and writing. A request in hand is not answered
        by anything else.

        Raises RuntimeError while an answer is sent in pieces, and unless the protocol is HTTP or
        goes step by step (`lockstep=True`); ConnectionError if it has ended.
        """
        from gworker.connection.detaching import detach

        return detach(self)

    def spawn(self, function: Callable[..., object], *arguments: Any) -> ConnectionGreenlet:
        """Run `function(*arguments)` in a greenlet beside the handler: for a loop that waits for
        what others send, say. Returns a gevent.Greenlet.

        As long as it runs the connection is busy: it does not move, and its process waits for it,
        for `graceful_timeout`, and then kills it. What it raises is logged, and closes this
        connection only.
        """
        return self.server_context.greenlets.spawn(self, function, *arguments)

    def pipe(self, destination: Connection) -> None:
        """Forward every message to `destination`, no faster than it takes them; one end closes the
        other.

        Of a connection with a handler: within that, and until one of the two has ended;
        RuntimeError elsewhere. For both directions let the other connection begin,
        `upstream.pipe(connection)`.
        """
        from gworker.connection.pipe import pipe, pump

        if not isinstance(self.event_job, HandlerJob):
            pipe(self, destination)
        elif self.event_job.is_current:
            pump(self, destination)
        else:
            raise RuntimeError(
                "pipe() of a connection with a handler forwards within that handler: call it there"
            )

    # ---- what the transport tells

    def reset_received(self) -> None:
        self.post(CONNECTION_RESET)

    def connection_lost(self) -> None:
        self.destroy()

    # ---- the end

    def close(self, data: Any = None, code: int = 1000, reason: str = "") -> None:
        """Send `data`, if any, and what is queued, then close. No message is delivered any more.

        code, reason: for protocols that say goodbye (RFC 6455, 7.4): 1000-1003, 1007-1014 and
        3000-4999, and at most 123 bytes of UTF-8; others raise ValueError. Before a handshake is
        answered it is refused, with `data` as the reply. An answer in pieces that has not begun is
        sent before; one that has begun is given `close_timeout`, and if its length was told, more
        as long as the peer takes something. A peer that takes too long is cut.
        """
        self.protocol_machine.check_close(code, reason)
        if self.migration is not None:
            if data is not None:
                sending.send_unestablished(self, data, raw=False)
            self.migration.defer("close", code, reason)
        elif self.lifecycle is ESTABLISHED:
            closing.close(self, data, code, reason)
        elif self.lifecycle in (CONNECTING, RECONNECTING, DETACHED):
            self.destroy()  # it is given up, with what was to be sent

    def destroy(self) -> None:
        """Close now and drop what is queued."""
        self.end(abort=True)

    def reset(self) -> None:
        """Close now, with a reset: what waits for the peer is dropped, also in the kernel."""
        self.end(abort=True, reset=True)

    def observe(self) -> None:
        # Write to the access log, if there is one. Before `open`.
        self.observer = self.server_context.observer(self.protocol_machine)

    def notify_waiter(self) -> None:
        """The process begins to retire: an exchange that has no end of its own looks for one."""
        self.protocol_machine.notify_waiter()

    # ---- for another process

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} cannot be pickled: in a context, keep the id of another connection"
        )


refuse_other_spellings(Connection)
accelerate(
    connection=Connection,
    transport=Transport,
    job=Job,
    plain_socket=_socket.socket,
    tls_socket=TlsSocket,
    states=tuple(State),
    established=ESTABLISHED,
    answer=answer,
    current=getcurrent,
)

Session = Connection  # the name of a connection with a connection handler, for its users
