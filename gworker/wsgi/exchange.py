"""One request and its answer: what an application calls `start_response`, and what becomes of the
iterable that it returns."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from gworker.connection.events import ConnectionReset
from gworker.connection.http_protocol import http_protocol, reset_unless_delimited
from gworker.connection.response_sender import AHEAD, Disconnected
from gworker.connection.state import ESTABLISHED
from gworker.core import ExchangeCore
from gworker.protocols.http.streaming import HttpExchange
from gworker.wsgi.file_wrapper import FileWrapper

if TYPE_CHECKING:
    from gworker.protocols.http.protocol import HttpProtocol

log = logging.getLogger("gworker")

_warned: set[str] = set()  # fields of applications, in lower case; of a few names

SHARE = 1 << 20  # bytes of an answer after which other connections have their turn

PIECE = 131072  # bytes of a file that wait for a client at once


class Exchange(ExchangeCore):
    """The `start_response` of one request, and its answer.

    body: bytes, or None once it is sent in pieces.
    """

    __slots__ = ()

    def dropped(self, names: list[str]) -> None:
        new = [name for name in names if name.lower() not in _warned]
        if new:
            _warned.update(name.lower() for name in new)
            log.warning(
                "the application sets %s: fields about the connection are the server's, and are "
                "not sent (PEP 3333)",
                ", ".join(new),
            )

    # ---- for the environ

    def client_disconnected(self) -> bool:
        """True once the client has left: the answer is not waited for."""
        connection = self.connection
        return connection.lifecycle is not ESTABLISHED or connection.io.eof_received

    def early_hints(self, headers: Iterable[tuple[str, str]]) -> None:
        """Send 103 (Early Hints, RFC 8297) before the answer. Nothing happens once that has
        begun, or for HTTP/1.0. Raises TypeError or ValueError for what is no header."""
        self.connection.send_informational(103, list(headers))

    # ---- sending

    def write(self, data: bytes) -> None:
        """Send a piece of the content now. Waits while the client does not take it."""
        if not isinstance(data, bytes):
            raise TypeError(f"an application's content is bytes, not {type(data).__name__}")
        connection = self.connection
        if not data or connection.lifecycle is not ESTABLISHED:
            return
        protocol = http_protocol(connection)
        if not self.is_begun and self._says(len(data)):  # it is all of the content
            self.body = data
            self.send()
            return
        head = b"" if self.is_begun else self._begin(protocol)
        if not protocol.is_sending:  # HEAD, 204, 304: the answer is complete without content
            if head:
                connection.write(head)
            return
        left = self.left
        if left is not None:
            if len(data) > left:
                if left:
                    log.warning("%r: content beyond its Content-Length is not sent", connection)
                data = data[:left]
            self.left = left - len(data)
        connection.write(head + protocol.encode_part(data) if data else head)
        while connection.io.buffered >= AHEAD:
            if not connection.drain():
                return

    def _says(self, size: int) -> bool:
        # Whether this is its Content-Length.
        text = str(size)
        return any(
            value == text and name.lower() == "content-length" for name, value in self.fields
        )

    def _begin(self, protocol: HttpProtocol) -> bytes:
        # The head of an answer in pieces.
        self._require_status()
        self.body = None
        head = protocol.encode(self)
        self.is_begun = True
        deadlines = self.connection.server_context.handler_deadlines
        if deadlines is not None:
            deadlines.pause()  # for good: an answer in pieces may take any time
        if protocol.exchange is not None:
            self.left = protocol.exchange.left
        return head

    def _require_status(self) -> None:
        if not self.status:
            raise AssertionError("the application has not called start_response()")

    def finish(self, result: Any) -> None:
        """Send what the application has returned, and close it. Raises what that raises."""
        try:
            if isinstance(result, FileWrapper) and (extent := result.extent()) is not None:
                self._send_file(*extent)
            elif isinstance(result, list | tuple):
                self._send_whole(result)
            else:
                self._send_iterable(result)
        except Disconnected:
            self.connection.destroy()
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _send_whole(self, items: list[bytes] | tuple[bytes, ...]) -> None:
        # All of it is here.
        if self.is_begun:
            for item in items:
                self.write(item)
            self._end()
            return
        self._require_status()
        for item in items:
            if not isinstance(item, bytes):
                raise TypeError(f"an application's content is bytes, not {type(item).__name__}")
        self.body = b"".join(items)
        self.send()

    def send(self) -> None:
        """Send the answer, whose body is whole."""
        self._require_status()
        self.is_begun = True
        if self.connection.lifecycle is ESTABLISHED:
            self.connection.send(self)

    def _send_iterable(self, result: Iterable[bytes]) -> None:
        connection = self.connection
        protocol = http_protocol(connection)
        exchange = protocol.exchange
        if exchange is None:
            exchange = protocol.exchange = HttpExchange()
        before, exchange.waiter = exchange.waiter, self._look
        self.sleeper = getcurrent()
        try:
            self._look()
            for item in result:
                self.sleeper = None
                if connection.lifecycle is not ESTABLISHED:
                    return
                self.write(item)
                if self.is_begun and self.body is None and not protocol.is_sending:
                    return  # its head is all of the answer: HEAD, 204, 304
                self._give_way(len(item))
                if self.client_disconnected() and not self.had_eof:
                    raise Disconnected
                self.sleeper = getcurrent()
        finally:
            self.sleeper = None
            exchange.waiter = before
        if self.is_begun:
            self._end()
        else:
            self._require_status()
            self.send()

    def _give_way(self, size: int) -> None:
        # Others have their turn, also while a client takes all that is produced.
        self.unshared += size
        if self.unshared >= SHARE:
            self.unshared = 0
            self.connection.server_context.run_queue.wait()

    def _end(self) -> None:
        connection = self.connection
        protocol = http_protocol(connection)
        if connection.lifecycle is ESTABLISHED and protocol.is_sending:
            connection.write(protocol.end_answer())
            connection.server_context.timeouts.not_closing(connection)

    def failed(self) -> None:
        """The application has raised: end the exchange, so that the client sees it."""
        connection = self.connection
        if self.is_begun:
            reset_unless_delimited(connection)
        connection.handler_failed("the WSGI application")

    # ---- a client that leaves

    def _look(self) -> None:
        # Something has happened to the connection.
        if self._has_left():
            self.connection.server_context.loop.run_callback(self._interrupt)

    def _has_left(self) -> bool:
        # A client that had finished sending before the application was called may wait for all of
        # its answer.
        connection = self.connection
        if connection.lifecycle is not ESTABLISHED:
            return True
        if connection.io.eof_received and not self.had_eof:
            return True
        job = connection.event_job
        return job is not None and any(isinstance(each, ConnectionReset) for each in job.events)

    def _interrupt(self) -> None:
        sleeper, self.sleeper = self.sleeper, None
        if sleeper is not None:
            sleeper.throw(Disconnected())

    # ---- files

    def _send_file(self, descriptor: int, position: int, left: int) -> None:
        connection = self.connection
        protocol = http_protocol(connection)
        if not self.is_begun:
            self._require_status()
            if all(name.lower() != "content-length" for name, _ in self.fields):
                self.fields.append(("Content-Length", str(left)))
            connection.write(self._begin(protocol))
        if not protocol.is_sending:
            return
        while connection.lifecycle is ESTABLISHED and self.left != 0:
            most = PIECE if self.left is None else min(PIECE, self.left)
            sent = connection.io.send_file(descriptor, position, most)
            if not sent:
                break
            position += sent
            if connection.observer is not None:
                connection.observer.sending(b"", sent)
                connection.observer.sent(connection)
            if protocol.exchange is not None and self.left is not None:
                self.left -= sent
                protocol.exchange.left = self.left
            if connection.io.buffered and not connection.drain():
                return
            self._give_way(sent)
        self._end()
