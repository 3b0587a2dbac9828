"""How a handler reads the body of a request piece by piece."""

from __future__ import annotations

from time import monotonic
from weakref import ref

from gevent.event import Event

from gworker.connection.context import QUEUE_MESSAGES
from gworker.connection.dispatcher import AnyConnection
from gworker.connection.http_protocol import http_protocol
from gworker.connection.state import ESTABLISHED, PauseReason
from gworker.http.errors import ClientGone, SlowRequest

POLL_SECONDS = 0.5  # a reader looks by itself so often, whatever it was told


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
        deadlines = connection.server_context.handler_deadlines
        paused = None if deadlines is None else deadlines.pause()
        try:
            connection.io.resume(PauseReason.BACKPRESSURE | PauseReason.HANDOVER)
            self._arrived.wait(seconds)
        finally:
            exchange.waiter = before
            if deadlines is not None:
                deadlines.resume(paused)
