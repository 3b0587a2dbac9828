"""Long exchanges of HTTP over a connection: bodies that are read, and answers that are sent, piece
by piece.

The protocol's events (`protocols.http.streaming`) wait in the job like everything else, and are
worked off in the connection's own greenlet: so answers keep their order, a handler and its stream
never overlap with the next request, and a retiring process sees the connection as busy until it is
done.
"""

from __future__ import annotations

import sys
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from gevent import GreenletExit, Timeout
from gevent.event import Event
from greenlet import getcurrent, greenlet

from gworker.app.callbacks import check_call
from gworker.connection.context import QUEUE_MESSAGES
from gworker.connection.dispatcher import AnyConnection, Handler, answer
from gworker.connection.events import CONTINUE_PARSING, ConnectionReset
from gworker.connection.receiving import MAX_UNASKED
from gworker.connection.state import ESTABLISHED, PauseReason
from gworker.http.body import StreamedRequest
from gworker.http.errors import ClientGone, SlowRequest
from gworker.http.headers import HeaderSource
from gworker.http.request import OfferingRequest
from gworker.protocols.base import INTERNAL_ERROR
from gworker.protocols.http.streaming import RequestStarted, ResponseStarted, Upgraded
from gworker.system import fork_guard

if TYPE_CHECKING:
    from gworker.http.request import Request
    from gworker.protocols.http.protocol import HttpProtocol

POLL_SECONDS = 0.5  # a reader looks by itself so often, whatever it was told

AHEAD = 131072  # bytes that may wait for the socket before the next piece is produced


def http_protocol(connection: AnyConnection) -> HttpProtocol:
    # The protocol of a connection from which an HttpEvent has come.
    return cast("HttpProtocol", connection.protocol_machine)  # such events come from no other


def reset_unless_delimited(connection: AnyConnection) -> None:
    # Reset the connection if the client cannot see otherwise that its answer was cut off.
    if not http_protocol(connection).delimits and connection.lifecycle is ESTABLISHED:
        connection.reset()


class BodyReader:
    """Waits for the pieces of a body. The socket is read only during that.

    It does not keep its connection: a handler that keeps only the request has nothing to answer
    with (`unanswered`).
    """

    def __init__(self, connection: AnyConnection) -> None:
        self._weak_connection = ref(connection)
        self._protocol = http_protocol(connection)
        self._exchange = self._protocol.exchange
        self._arrived = Event()
        # Seconds of waiting since the client was last quick enough, when `_read` bytes had come.
        self._waited = 0.0
        self._read = connection.io.bytes_read
        self._pieces = 0  # that were taken without waiting for them

    @property
    def _connection(self) -> AnyConnection:
        connection = self._weak_connection()
        if connection is None:
            raise ClientGone("the client has gone")
        return connection

    def more(self) -> bytes | None:
        """The next piece; None at the end. Raises what `request.stream` says."""
        if self._protocol.exchange is not self._exchange:
            raise ClientGone(
                "the request was answered, or its connection has ended: nothing is left to read"
            )
        self._pieces += 1
        if self._pieces >= QUEUE_MESSAGES:
            self._pieces = 0
            self._connection.server_context.run_queue.wait()
        piece = self._protocol.take_body()
        while piece == b"":
            self._pieces = 0
            self._check_rate()
            began = monotonic()
            self._wait(POLL_SECONDS)
            self._waited += monotonic() - began
            piece = self._protocol.take_body()
        if (job := self._connection.event_job) is not None:
            job.unread_bytes = 0  # all that was read of it is taken: nothing of it waits
        return piece

    def _check_rate(self) -> None:
        # As for a body that is not streamed; but what counts is the time that the handler has
        # waited for it.
        limits = self._connection.server_context.limits
        limit = limits.header_timeout
        if not limit or self._waited < limit:
            return
        read = self._connection.io.bytes_read
        if read - self._read < max(1, limits.min_rate * self._waited):
            raise SlowRequest(f"too little came of the body for {limit:g} s")
        self._read, self._waited = read, 0.0

    def _wait(self, seconds: float) -> None:
        connection, exchange = self._connection, self._exchange
        if (
            connection.lifecycle is not ESTABLISHED
            or connection.io.eof_received
            or exchange is None
        ):
            raise ClientGone("the client has gone")
        if self._protocol.has_output:  # 100 (Continue)
            connection.write_output()
        self._arrived.clear()
        before, exchange.waiter = exchange.waiter, self._arrived.set
        try:
            connection.io.resume(PauseReason.BACKPRESSURE | PauseReason.HANDOVER)
            self._arrived.wait(seconds)
        finally:
            exchange.waiter = before


class Disconnected(GreenletExit):
    """Thrown into an iterable that sleeps while its client has gone."""


class ResponseSender:
    """Sends one streamed answer."""

    def __init__(self, connection: AnyConnection, response: Any) -> None:
        self._connection = connection
        self._protocol = http_protocol(connection)
        self._exchange = self._protocol.exchange
        self._response = response
        self._greenlet: greenlet | None = None
        self._timer: Any = None
        self._sent = False
        self._read = connection.io.bytes_read

    def run(self) -> None:
        """Until it is sent, or the client does not want it any more."""
        connection, exchange = self._connection, self._exchange
        if exchange is None or connection.lifecycle is not ESTABLISHED:
            self._response.close()
            return
        parts = self._response.parts()
        self._greenlet = getcurrent()
        exchange.waiter = self._look
        seconds = self._response.keep_alive
        if seconds > 0:
            self._timer = connection.server_context.loop.timer(seconds, seconds)
            self._timer.start(self._send_filler)
        try:
            self._look()
            complete = self._send(parts)
            if complete and connection.lifecycle is ESTABLISHED:
                self._write(self._protocol.end_answer())
        except Disconnected:
            if self._ends_politely():
                connection.write(self._protocol.end_answer())
            else:
                connection.destroy()
        except (Timeout, GreenletExit):  # they belong to the handler in whose recv() this runs
            reset_unless_delimited(connection)
            connection.close(code=INTERNAL_ERROR)
            raise
        except BaseException:
            self._fail()
        finally:
            self._greenlet = None
            exchange.waiter = None
            if connection.lifecycle is ESTABLISHED:
                connection.server_context.timeouts.not_closing(connection)
            if self._timer is not None:
                self._timer.close()
            try:
                parts.close()
            except BaseException:
                self._fail()

    def _fail(self) -> None:
        fork_guard.end(sys.exception())
        reset_unless_delimited(self._connection)
        self._connection.handler_failed("the stream of an answer")

    def _send(self, parts: Any) -> bool:
        # True: that was all.
        connection, protocol = self._connection, self._protocol
        for part in parts:
            if connection.lifecycle is not ESTABLISHED:
                return False
            if not part:
                continue
            self._sent = True
            if not self._write(protocol.encode_part(part)):
                return False
            while connection.io.buffered >= AHEAD:
                if not connection.drain():
                    return False
                self._listen()
        return True

    def _write(self, data: bytes) -> bool:
        # Write; nothing is thrown into the callbacks that this may call, which may wait.
        sleeper, self._greenlet = self._greenlet, None
        try:
            return self._connection.write(data)
        finally:
            self._greenlet = sleeper
            if self._is_over():  # it may have been woken for that meanwhile
                self._look()

    def _listen(self) -> None:
        # Read on if the peer's end is the end of the answer, to notice it, also when the peer sends
        # what it should not yet.
        if self._response.ends_with_peer:
            self._connection.io.resume(PauseReason.BACKPRESSURE)

    def _send_filler(self) -> None:
        sent, self._sent = self._sent, False
        connection = self._connection
        if not sent and connection.lifecycle is ESTABLISHED and not connection.io.buffered:
            connection.write(self._protocol.encode_part(self._response.filler))

    def _look(self) -> None:
        # Something has happened to the connection: wake an iterable whose client has gone.
        self._listen()
        if self._is_over():
            self._connection.server_context.loop.run_callback(self._interrupt)

    def _is_over(self) -> bool:
        connection = self._connection
        ends_with_peer = self._response.ends_with_peer
        if connection.lifecycle is not ESTABLISHED or self._ends_politely():
            return True
        if ends_with_peer and connection.io.bytes_read - self._read >= MAX_UNASKED:
            return True
        job = connection.event_job
        return connection.io.eof_received and (
            ends_with_peer
            or (job is not None and any(isinstance(each, ConnectionReset) for each in job.events))
        )

    def _ends_politely(self) -> bool:
        # Events have no end to wait for: it is here, politely, and the client comes back for more.
        connection = self._connection
        return (
            connection.lifecycle is ESTABLISHED
            and not connection.io.eof_received
            and self._response.ends_with_peer
            and (self._protocol.closing or connection.server_context.retiring)
        )

    def _interrupt(self) -> None:
        sleeper, self._greenlet = self._greenlet, None
        if sleeper is not None:
            sleeper.throw(Disconnected())


def attach(connection: AnyConnection, event: RequestStarted) -> Request:
    """The request of `event`, able to read its body. Its files are closed when it is answered."""
    request, protocol = event.request, http_protocol(connection)
    if isinstance(request, StreamedRequest):
        request.attach(BodyReader(connection).more)
    elif isinstance(request, OfferingRequest):
        request.attach(partial(_upgrade, connection, protocol))
    if protocol.exchange is not None:
        protocol.exchange.ended = request.close
    connection.server_context.requests += 1
    return request


def _serve(connection: AnyConnection, event: RequestStarted) -> None:
    if connection.lifecycle is not ESTABLISHED:
        return
    request, callback = attach(connection, event), connection.callbacks.on_message
    protocol = http_protocol(connection)
    transfer = protocol.exchange
    if transfer is not None:
        transfer.ended = None  # while the handler runs it may use the files, also after its answer
    try:
        if callback is not None and (value := callback(connection, request)) is not None:
            answer(connection, callback, value)
    except BaseException:
        connection.handler_failed("on_message")
    if transfer is not None and protocol.exchange is transfer:
        transfer.ended = request.close  # it is answered later
    else:
        request.close()


def _upgraded(connection: AnyConnection, event: Upgraded) -> None:
    connection.request = event.request
    for name, function in event.callbacks.items():
        connection.set_callback(name, function)


HTTP_HANDLERS: dict[type, Handler] = {
    RequestStarted: _serve,
    ResponseStarted: lambda connection, event: ResponseSender(connection, event.body).run(),
    Upgraded: _upgraded,
}


def _upgrade(
    connection: AnyConnection,
    protocol: HttpProtocol,
    request: Request,
    headers: HeaderSource,
    callbacks: dict[str, Any],
) -> None:
    # A request has offered to switch protocols. That may be taken up after its handler, too.
    for name, function in callbacks.items():
        check_call(name, function, connection)
    protocol.upgrade(request, headers, callbacks)
    job = connection.event_job
    if job is None or not job.is_current:
        connection.post(CONTINUE_PARSING)


def end_soon(connection: AnyConnection) -> None:
    # The connection is to close politely while an answer is sent. One that has not begun yet is
    # just its last.
    protocol = http_protocol(connection)
    transfer = protocol.exchange
    protocol.closing = True
    if transfer is not None and transfer.event is None:
        transfer.seen = _taken(connection)
        connection.server_context.timeouts.closing(connection)
    protocol.notify_waiter()


def out_of_time(connection: AnyConnection) -> bool:
    """The answer did not end in `close_timeout`. True: it may go on, as its length is known and
    the peer takes it."""
    protocol = http_protocol(connection)
    transfer, taken = protocol.exchange, _taken(connection)
    if transfer is not None and transfer.left is not None and taken > transfer.seen:
        transfer.seen = taken
        connection.server_context.timeouts.closing(connection)
        return True
    reset_unless_delimited(connection)
    return False


def _taken(connection: AnyConnection) -> int:
    taken = connection.io.acknowledged
    return connection.io.bytes_written if taken is None else taken
