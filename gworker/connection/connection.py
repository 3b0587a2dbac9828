"""A connection: what its user, its transport and its process can do with it.

An idle connection is this object, its transport and its protocol; it holds no greenlet. What the
transport reads goes through the protocol into the job (`receiving`), and the job calls the
callbacks (`dispatcher`). `_closed` is the one door to the end.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from greenlet import getcurrent

from gworker.app.attribute_names import Strict, refuse_other_spellings
from gworker.app.callbacks import Callbacks
from gworker.connection import closing, receiving
from gworker.connection.attributes import Attributes
from gworker.connection.context import ServerContext
from gworker.connection.dispatcher import HANDLERS, Handler, Job, handle, has_refused, new_job
from gworker.connection.events import (
    CONNECTION_RESET,
    CONTINUE_PARSING,
    CallbackFailed,
    CallCallback,
    ConnectionReset,
    describe,
)
from gworker.connection.handler_job import HandlerJob
from gworker.connection.migration import Deferred, Migration, apply
from gworker.connection.min_rate import NOT_PEERS_FAULT
from gworker.connection.pending_transport import drain, pending
from gworker.connection.sending import check_payload, defer_send, raw_bytes
from gworker.connection.state import (
    AWAITING_CLOSE,
    CLOSED,
    CLOSING,
    CONNECTING,
    ESTABLISHED,
    MIGRATING,
    RECONNECTING,
)
from gworker.connection.transport import SEND_FAILURES, PauseReason, Transport
from gworker.errors import ErrorCode, SendBufferFull
from gworker.protocols.base import INTERNAL_ERROR, LARGE, HttpEvent, Protocol
from gworker.system import fork_guard
from gworker.system.peer_address import SocketAddress

if TYPE_CHECKING:
    import _socket

log = logging.getLogger("gworker")

MOST_TOLD = 128
"""So many things may wait for the user's callbacks; that something could not be sent is told often
enough then."""

NO_CALLBACKS = Callbacks()
"""Of a connection that another process has taken."""


def _http(connection: Any, event: HttpEvent) -> None:
    """The first event of HTTP: the handlers of all of them are loaded, which others do without."""
    from gworker.connection.http_exchange import HTTP_HANDLERS

    Connection.handlers.update(HTTP_HANDLERS)
    HTTP_HANDLERS[type(event)](connection, event)


class Connection(Attributes, metaclass=Strict):
    """One connection.

    id: unique in its instance, from 1 on, and kept by a handover. request: the handshake's Request,
    for WebSocket. headers: in on_websocket_connect, (name, value) pairs or a mapping to add to the
    101.
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
        self.request = self.headers = self.idle_mark = self._context = None
        self.event_job = self.migration = self.observer = None
        self.parser_paused = False
        self.lifecycle = CONNECTING if self.is_dialled else ESTABLISHED
        self.server_context = server_context
        self.callbacks = server_context.worker.callbacks
        self.protocol_machine = protocol(limits.max_package_size or self.default_max_package_size)
        if socket is not None:  # a connection that is dialled comes with its own transport
            most = limits.max_send_buffer_size or self.default_max_send_buffer_size
            self.io = Transport(server_context, self, socket, remote, most)
        # A user's protocol may raise: nothing knows of this connection yet.
        self.configure(self.protocol_machine)
        self.register()

    def configure(self, protocol: Protocol) -> None:
        """Tell `protocol` what it is to know."""
        if self.is_dialled:
            protocol.configure({})
        else:
            self.server_context.configure_protocol(protocol, self.io.remote, self.io.is_tls)

    def register(self) -> None:
        self.server_context.registry.register(self, self.io.remote)

    def unregister(self) -> None:
        self.server_context.registry.unregister(self, self.io.remote)

    def open(self, handler: Callable[[Any], object] | None = None) -> None:
        """Begin: start reading, call on_connect or run `handler`, a connection handler. Once, from
        the hub."""
        server = self.server_context
        if handler is not None:
            self.event_job = HandlerJob(self, handler)
        elif self.callbacks.on_connect is not None:
            self.enqueue(CallCallback("on_connect"))
        self.io.start()
        server.isolate_errors(type(self)._begin)(self)
        job = self.event_job
        if job is not None and job.greenlet is None:
            server.pool.start_soon(job)

    def _begin(self) -> None:
        """Ask the protocol what it is waiting for at first."""
        self.set_deadline()
        if isinstance(self.event_job, HandlerJob):
            self.event_job.shakes_hands = self.shakes_hands

    @property
    def shakes_hands(self) -> bool:
        return self.protocol_machine.waiting_for() == "handshake"

    # ---- sending: in any greenlet

    @property
    def encoding(self) -> Hashable:
        """Of its protocol: connections with equal keys, not None, encode a message alike."""
        return self.protocol_machine.encoding

    @property
    def accepts_unsolicited(self) -> bool:
        """True while it takes messages that answer nothing: it is open, and its protocol has
        such."""
        if self.lifecycle is not ESTABLISHED and self.lifecycle is not MIGRATING:
            return False
        return self.protocol_machine.accepts_unsolicited

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

    def send(self, data: Any, raw: bool = False) -> bool:
        """Send one message; with `raw`, bytes past the protocol. Never blocks.

        True: written or queued. False: refused, and on_error was told: the connection is gone, or
        its send buffer is full. Raises TypeError or ValueError for what the protocol cannot carry.
        """
        if self.lifecycle is not ESTABLISHED:
            return self._send_unestablished(data, raw)
        io, machine = self.io, self.protocol_machine
        buffer = io.write_buffer
        if buffer is not None and 0 < buffer.size >= io.max_send_buffer_size:
            return self.reject_send("send buffer full and drop package")
        kind = data.__class__
        if (
            kind is not str
            and (kind is not bytes or len(data) >= LARGE)
            and not raw
            and (parts := machine.split(data)) is not None
        ):
            sent = self._write_parts(*parts)
        else:
            try:
                payload = raw_bytes(data) if raw else machine.encode(data)
            except SendBufferFull:
                return self.reject_send("send buffer full and drop package")
            try:
                sent = io.write(payload) if self.observer is None else self.write(payload)
            except TypeError:  # looked for afterwards: it would cost every message
                check_payload(machine, payload)
                raise  # of something else
        if self.parser_paused:
            job = self.event_job
            if job is None or job.greenlet is not getcurrent():
                self.continue_parsing()
        return sent

    def _send_unestablished(self, data: Any, raw: bool) -> bool:
        if self.migration is not None:
            is_taken = defer_send(self, self.migration, data, raw)
        elif self.lifecycle is not CLOSED and (io := pending(self)) is not None:
            is_taken = io.keep(self.protocol_machine, data, raw)
        else:
            return self.reject_send("client closed")
        return is_taken or self.reject_send("send buffer full and drop package")

    def write(self, data: bytes) -> bool:
        """Send `data` past the protocol, which has made it. False: the peer is gone."""
        observer = self.observer
        if observer is None:
            return self.io.write(data)
        observer.sending(data)
        sent = self.io.write(data)
        observer.sent(self)
        return sent

    def _write_parts(self, head: bytes, body: bytes) -> bool:
        observer = self.observer
        if observer is None:
            return self.io.write_parts(head, body)
        observer.sending(head, len(body))
        sent = self.io.write_parts(head, body)
        observer.sent(self)
        return sent

    def write_output(self) -> None:
        """Send what the protocol owes by itself. A peer that does not take it is not read any
        further."""
        self.write(self.protocol_machine.data_to_send())
        if self.io.is_full:
            self.io.pause(PauseReason.WRITE_BLOCKED)

    def reject_send(self, message: str) -> bool:
        """Tell the application that a message was not taken. Returns False."""
        self.server_context.row[SEND_FAILURES] += 1
        self.notify("on_error", ErrorCode.SEND_FAIL, message)
        return False

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until everything is sent. False: `timeout` seconds passed, or the connection is
        gone.

        One that is dialled is open first; False at once in its own callbacks before that, as it
        opens after them.
        """
        return drain(self, timeout) and self.lifecycle is not CLOSED

    # ---- receiving

    parse = receiving.parse
    may_parse = receiving.may_parse
    set_deadline = receiving.set_deadline
    deadline_passed = receiving.deadline_passed

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

    def data_received(self, data: bytes) -> None:
        if self.observer is not None:
            self.observer.received()
        job = self.event_job
        if data and (
            self.parser_paused
            or (job is not None and job.greenlet is not None and job.waiter is None)
        ):
            receiving.count_unread(self, len(data))
        self.parse(data)
        job = self.event_job
        if job is not None and job.events:
            if job.greenlet is None:
                self.server_context.pool.start(job)
            else:
                self.wake()
        elif (
            self.io.pause_reasons and not self.parser_paused and (job is None or job.waits_for_peer)
        ):
            self.io.resume(PauseReason.BACKPRESSURE)

    def reset_received(self) -> None:
        self.post(CONNECTION_RESET)

    def write_failed(self) -> None:
        if self.lifecycle is CONNECTING:
            self.post(CONNECTION_RESET)
            return
        self.fail(ErrorCode.SEND_FAIL, "client closed")

    def connection_lost(self) -> None:
        self.destroy()

    def write_progress(self) -> None:
        if self.observer is not None:
            self.observer.progressed(self)
        if self.lifecycle is CLOSING or self.lifecycle is AWAITING_CLOSE:
            # a slow reader is no stuck one
            self.server_context.timeouts.closing(self, anew=True)

    # A peer may be full and empty again over and over while a handler runs: what is told of that is
    # bounded, too.

    def buffer_full(self) -> None:
        if self._last_told() != "on_buffer_full":
            self.notify("on_buffer_full")

    def buffer_drained(self, was_full: bool) -> None:
        if self.observer is not None:
            self.observer.progressed(self)
        if self.lifecycle is CLOSING:
            self._closed()
            return
        if was_full and self.lifecycle is ESTABLISHED:
            self.tell_drained()
        if self.parser_paused and self.lifecycle is not CLOSED:
            self.continue_parsing()

    def tell_drained(self) -> None:
        """on_buffer_full was called: now everything is sent."""
        last = self._last_told()
        if last == "on_buffer_full" and self.event_job is not None:
            self.event_job.events.pop()  # it is not full any more
        elif last != "on_buffer_drain":
            self.notify("on_buffer_drain")

    def _last_told(self) -> str:
        """The callback that waits last in a job which is full of such; "" as long as it is not."""
        job = self.event_job
        if job is None or len(job.events) < MOST_TOLD:
            return ""
        last = job.events[-1]
        return last.name if isinstance(last, CallCallback) else ""

    # ---- events and callbacks

    def enqueue(self, event: Any) -> Job:
        """Let `event` wait for its turn, in a job that is begun elsewhere."""
        job = self.event_job
        if job is None:
            return new_job(self, [event])
        job.events.append(event)
        return job

    def post(self, event: Any) -> None:
        """Let `event` have its turn. From any greenlet."""
        job = self.enqueue(event)
        if job.greenlet is None:
            self.server_context.pool.start_soon(job)
        else:
            self.wake()

    def wake(self) -> None:
        """Something has come, or the connection has ended: what waits for it is to look."""
        if self.event_job is not None:
            self.event_job.wake()
        try:
            self.protocol_machine.notify_waiter()
        except BaseException:
            self.protocol_failed()

    def continue_parsing(self) -> None:
        """What the protocol has kept back may go on. From outside the job."""
        if self.event_job is None or self.event_job.greenlet is None:
            self.post(CONTINUE_PARSING)
        else:
            self.wake()

    def call(self, name: str, *arguments: Any) -> None:
        """Call a callback, if there is one. In the job."""
        callback = getattr(self.callbacks, name)
        if callback is not None:
            try:
                callback(self, *arguments)
            except BaseException:
                self.handler_failed(name)

    def notify(self, name: str, *arguments: Any) -> None:
        """Call a callback because of what some greenlet just did: at once if that is the job's,
        else in its turn."""
        if getattr(self.callbacks, name) is None:
            return
        job = self.event_job
        if job is not None and job.is_current:
            self.call(name, *arguments)
        elif name != "on_error" or job is None or len(job.events) < MOST_TOLD:
            self.post(CallCallback(name, *arguments))

    def protocol_failed(self, events: list[Any] | None = None) -> None:
        """A user's protocol has let an exception escape: as with a callback, it costs this
        connection only, which is reset in its turn. events: those of a job that is being made."""
        self.server_context.report_exception("%r: exception in its protocol", self)
        if self.lifecycle is CLOSED:
            return
        reset = ConnectionReset(describe(sys.exception()))
        if events is None:
            self.enqueue(reset)
        else:
            events.append(reset)

    def handler_failed(self, name: str) -> None:
        """A callback or the protocol has let an exception escape: it costs this connection and
        nothing else."""
        error = sys.exception()
        fork_guard.end(error)
        is_opening = self.lifecycle is CONNECTING
        try:
            if not is_opening and has_refused(self, error):
                return
            self.server_context.report_exception("%r: exception in %s", self, name)
            if is_opening:  # at once: of what follows, nothing is the reason any more
                handle(self, CallbackFailed(describe(error)), self.handlers)
            else:
                self.close(code=INTERNAL_ERROR)
        except Exception as failure:
            log.error("%r: cannot be closed politely: %r", self, failure)
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
                self._send_unestablished(data, raw=False)
            self.migration.defer("close", code, reason)
        elif self.lifecycle is ESTABLISHED:
            closing.close(self, data, code, reason)
        elif self.lifecycle is CONNECTING or self.lifecycle is RECONNECTING:
            self.destroy()  # it is given up, with what was to be sent

    close_timed_out = closing.close_timed_out

    def destroy(self) -> None:
        """Close now and drop what is queued."""
        self._closed(abort=True)

    def reset(self) -> None:
        """Close now, with a reset: what waits for the peer is dropped, also in the kernel."""
        self._closed(abort=True, reset=True)

    def fail(self, code: ErrorCode, message: str) -> None:
        """Close at once, and call on_error, then on_close. In either a dialled one may begin anew,
        so it is closed before."""
        job = self.event_job
        if job is not None and job.is_current:
            self._closed(abort=True)
            self.call("on_error", code, message)  # on_close waits in the job
            return
        if self.callbacks.on_error is not None:
            self.enqueue(CallCallback("on_error", code, message))
        self._closed(abort=True)
        job = self.event_job
        if job is not None and job.events and job.greenlet is None:
            self.server_context.pool.start_soon(job)

    def begin_close(self, farewell: bytes, awaiting: bool = False) -> None:
        """Send `farewell` and what is queued, hear the peer's if `awaiting`, then close; all in
        `close_timeout`.

        A farewell that is no bytes, as a user's protocol may have it, ends it at once. TypeError.
        """
        io, server = self.io, self.server_context
        self.lifecycle = AWAITING_CLOSE if awaiting and not io.eof_received else CLOSING
        try:
            if farewell:
                self.write(farewell)
        except TypeError:
            self.destroy()
            raise
        # The peer is gone, or on_buffer_full has ended it, or even begun anew.
        if self.lifecycle is AWAITING_CLOSE:
            io.resume(PauseReason.ALL)
        elif self.lifecycle is CLOSING:
            io.pause(PauseReason.BACKPRESSURE)
        else:
            return
        if io.write_buffer is not None:
            io.write_buffer.seen = io.acknowledged or 0
        server.timeouts.closing(self)
        if self.lifecycle is CLOSING and io.write_buffer is None:
            self._closed()

    def peer_finished(self) -> None:
        """The peer has said goodbye, or will not."""
        if self.lifecycle is ESTABLISHED:
            self.begin_close(self.protocol_machine.close())
        elif self.lifecycle is AWAITING_CLOSE or self.lifecycle is CLOSING:
            self.lifecycle = CLOSING
            if self.io.write_buffer is None:
                self._closed()

    def _closed(self, abort: bool = False, reset: bool = False) -> None:
        if self.lifecycle is CLOSED:
            return
        if self.lifecycle is MIGRATING:  # the process that has it hears the end of the stream
            self.io.shut_down()
            return
        is_told = self.lifecycle is RECONNECTING  # on_close was called before reconnect()
        self._leave_tables()
        if abort:
            self.io.abort(reset)
        else:
            self.io.close()
        try:
            self.flush_observer()
            if not is_told:
                self.tell_closed()
        finally:
            self.server_context.registry.notify_closed()

    def _leave_tables(self) -> None:
        self.lifecycle = CLOSED
        self.server_context.timeouts.forget(self)
        self.unregister()

    def tell_closed(self) -> None:
        self.wake()
        if self.callbacks.on_close is not None:
            job = self.enqueue(CallCallback("on_close"))
            if job.greenlet is None:
                self.server_context.pool.start_soon(job)

    def observe(self) -> None:
        """Write to the access log, if there is one. Before `open`."""
        self.observer = self.server_context.observer(self.protocol_machine)

    def flush_observer(self) -> None:
        """The process ends: the access log gets the lines that are due."""
        if self.observer is not None:
            self.observer.closed(self)

    def let_go(self) -> None:
        """In a process that user code has forked: the connection is the parent's. Nothing is
        told."""
        if self.event_job is not None:
            self.event_job.events.clear()  # the job stays: a connection handler may run in it
        if self.lifecycle is not CLOSED:
            self._leave_tables()
            self.io.forget()

    # ---- for timers

    @property
    def is_idle(self) -> bool:
        """True if no handler runs and nothing waits: neither a message nor bytes to send."""
        job = self.event_job
        return (
            (job is None or (job.waiter is not None and not job.events))
            and self.io.write_buffer is None
            and not self.parser_paused
        )

    @property
    def is_held(self) -> bool:
        """True while it is not read, whatever the peer sends, because we want it so."""
        return self.io.pause_reasons & PauseReason.ON_PURPOSE != 0

    @property
    def is_resting(self) -> bool:
        """True between two exchanges: the peer may ask again, or not."""
        machine = self.protocol_machine
        return machine.keeps_alive and not machine.waiting_for() and not machine.is_answering

    @property
    def unfinished(self) -> int | None:
        """Which message has come in part, as a number; None: none, or it is ours to read on."""
        if self.io.pause_reasons or self.parser_paused:
            return None
        return self.protocol_machine.message_start(self.io.bytes_read)

    @property
    def body_progress(self) -> int | None:
        """For `min_rate`: what has come so far; None: no body is arriving."""
        if self.lifecycle is CLOSED or self.protocol_machine.waiting_for() != "body":
            return None
        if self.io.pause_reasons or self.parser_paused or self.lifecycle is MIGRATING:
            return NOT_PEERS_FAULT
        return self.io.bytes_read

    @property
    def taken(self) -> int | None:
        """For `min_rate`: what the peer has taken so far; None: nothing waits for it, neither here
        nor in the kernel."""
        return NOT_PEERS_FAULT if self.lifecycle is MIGRATING else self.io.acknowledged

    @property
    def unacknowledged(self) -> int:
        """Bytes that the peer has not acknowledged: those that wait here, and those that the kernel
        holds for it."""
        return self.io.unacknowledged

    is_silent = closing.is_silent

    def ping(self) -> bool:
        """Ask the peer for a sign of life, unless it is busy taking what is queued. False: there is
        no asking it."""
        if self.lifecycle is not ESTABLISHED or not (ping := self.protocol_machine.ping()):
            return False
        return self.io.write_buffer is not None or self.write(ping)

    def expire(self) -> None:
        """The peer does not answer: tell it, and wait for nothing."""
        self.begin_close(self.protocol_machine.close(INTERNAL_ERROR, "no answer to a ping"))

    # ---- for a process that retires

    @property
    def is_answering(self) -> bool:
        """True while its protocol owes an answer."""
        return self.protocol_machine.is_answering

    @property
    def awaits_answer(self) -> bool:
        """True while the peer has asked and nothing of the answer is there."""
        return self.protocol_machine.awaits_answer

    @property
    def reconnects_at_once(self) -> bool:
        """True if the peer, sent away, is likely to connect again at once."""
        return self.protocol_machine.reconnects_at_once

    def notify_waiter(self) -> None:
        """The process begins to retire: an exchange that has no end of its own looks for one."""
        self.protocol_machine.notify_waiter()

    def hold_back(self) -> None:
        """The process takes nothing more: read no further, but for the body that a handler waits
        for, and the end of a client whose answer is due."""
        job = self.event_job
        is_running = job is not None and job.greenlet is not None
        reads = (
            closing.has_body_to_read(self) if is_running else self.protocol_machine.awaits_answer
        )
        if not reads:
            self.io.pause(PauseReason.HANDOVER)

    def read_on(self) -> None:
        """No successor takes it for now: go on with what it has sent."""
        if self.io.pause_reasons & PauseReason.HANDOVER and self.lifecycle is ESTABLISHED:
            self.io.resume(PauseReason.HANDOVER)
            if self.parser_paused:
                self.post(CONTINUE_PARSING)

    retire = closing.retire
    end_between_messages = closing.end_between_messages

    @property
    def may_still_ask(self) -> bool:
        """True if the peer has begun to ask, or is given time for that."""
        return closing.may_still_ask(self)

    # ---- for another process

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} cannot be pickled: in a context, keep the id of another connection"
        )

    @property
    def migration_obstacle(self) -> str:
        """Why it cannot move to another process, whatever it is doing; "" if it can.

        The keys of a TLS connection live in OpenSSL, which does not give them away. Callbacks of
        its own may refer to anything in this process.
        """
        worker, machine = self.server_context.worker, self.protocol_machine
        if self.io.is_tls:
            return "TLS"
        if self.callbacks is not worker.callbacks:
            return "own callbacks"
        return worker.migration_obstacle(machine.keeps_alive) or machine.migration_obstacle

    @property
    def is_movable(self) -> bool:
        """True while nothing of it is bound to this process: no handler, no message, no answer that
        is owed."""
        machine, job = self.protocol_machine, self.event_job
        if (
            self.lifecycle is not ESTABLISHED
            or (job is not None and job.is_busy)
            or machine.is_answering
        ):
            return False
        # What moves with handover=False moves between two requests only.
        return self.server_context.worker.handover is not False or not (
            machine.is_partial or closing.has_body_to_read(self)
        )

    def fileno(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self.io.fileno()

    def suspend(self) -> int:
        """Touch the socket no more until `resume` or `forget`; return its descriptor. Only while
        ESTABLISHED."""
        self.lifecycle = MIGRATING
        self.migration = Migration(self.id)
        return self.io.detach()

    def resume(self) -> None:
        """The other process has not taken it: go on."""
        deferred = self._end_migration()
        self.lifecycle = ESTABLISHED
        self.io.reattach()
        self.io.resume(PauseReason.HANDOVER)
        # a deadline that has passed meanwhile was not told
        self.server_context.isolate_errors(type(self).set_deadline)(self)
        apply(self, deferred)

    def forget(self) -> list[Deferred]:
        """The other process has taken it: forget it, without a word to the peer or to the user.

        Its descriptor was taken out of the epoll set before (see epoll.py). Returns what was asked
        of it meanwhile: the other process has to do that.
        """
        deferred = self._end_migration()
        self._leave_tables()
        self.io.forget()
        # nothing happens to the peer: that a `send` to this object is refused is not told
        self.callbacks = NO_CALLBACKS
        return deferred

    def _end_migration(self) -> list[Deferred]:
        migration, self.migration = self.migration, None
        return [] if migration is None else migration.deferred

    def activate(self, deferred: list[Deferred]) -> None:
        """Go on where the predecessor stopped. From the hub.

        What was sent while it moved goes out first; then on_takeover is called; then follows what
        came meanwhile. deferred: what was asked of it where it came from.
        """
        own = self._end_migration()
        self.lifecycle = ESTABLISHED
        self.io.reattach()
        if self.callbacks.on_takeover is not None:
            self.enqueue(CallCallback("on_takeover"))
        apply(self, [*deferred, *own])
        if self.server_context.takes_no_more:
            self.io.pause(PauseReason.HANDOVER)
            self.parser_paused = True  # there may be messages among what was moved
        elif self.lifecycle is ESTABLISHED:
            self.parse()
        job = self.event_job
        if job is not None and job.events and job.greenlet is None:
            self.server_context.pool.start(job)

    def state(self) -> dict[str, Any]:
        """What `restore` needs in another process, besides the descriptor and the protocol."""
        return {
            "accepted_at": self.accepted_at,
            "transport": self.io.state(),
            "request": self.request,
            "paused": self.parser_paused,
            "context": self._context,
            "observer": None if self.observer is None else self.observer.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Become what `state` tells of. While it is suspended."""
        self.accepted_at = state["accepted_at"]
        self.io.restore(state["transport"])
        self.request = state["request"]
        self.parser_paused = state["paused"]
        self._context = state["context"]
        if self.observer is not None and state["observer"] is not None:
            self.observer.restore(state["observer"])


refuse_other_spellings(Connection)
