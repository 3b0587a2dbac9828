"""How an answer is sent piece by piece, as an iterable gives it."""

from __future__ import annotations

import sys
from typing import Any

from gevent import GreenletExit, Timeout
from greenlet import getcurrent, greenlet

from gworker.connection.dispatcher import AnyConnection
from gworker.connection.events import ConnectionReset
from gworker.connection.http_protocol import http_protocol, reset_unless_delimited
from gworker.connection.receiving import MAX_UNASKED
from gworker.connection.state import ESTABLISHED, PauseReason
from gworker.protocols.base import INTERNAL_ERROR
from gworker.system import fork_guard

AHEAD = 131072  # bytes that may wait for the socket before the next piece is produced


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
