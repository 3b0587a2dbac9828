"""A WebSocket as applications of gevent-websocket see it: `environ["wsgi.websocket"]`.

    pending ── first use, or a second ──► open ── close(), or the peer ends ──► closed
       ├── the application answers by start_response ──► refused
       └── environ["gunicorn.socket"] is used ──► taken

The 101 leaves when the object is used as a WebSocket, so an application may still refuse the
handshake by a status, or shake hands itself. Frames are read and written by gworker's protocol:
close codes are those that are given, and nothing that RFC 6455 forbids arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import Any, Protocol

from gevent.event import Event
from geventwebsocket.exceptions import WebSocketError
from geventwebsocket.handler import Client
from geventwebsocket.resource import WebSocketApplication
from geventwebsocket.websocket import WebSocket

from gworker.connection.state import ESTABLISHED
from gworker.http.request import Request
from gworker.http.upgrade import SUBPROTOCOL, offered_subprotocols
from gworker.protocols.websocket.frames import FIN, PONG, frame, parse_close

MOST_WAITING = 64  # messages that wait for `receive`, before reading stops

DEAD = "Socket is dead"


_handle = WebSocketApplication.handle


def patch_library() -> None:
    """Let applications of a Resource have callbacks in place of a loop in a greenlet."""
    if WebSocketApplication.handle is _handle:
        WebSocketApplication.handle = _serve


def _serve(app: Any) -> None:
    if isinstance(app.ws, GeventWebSocket):
        app.ws.run(app)
    else:
        _handle(app)


class State(Enum):
    PENDING = "pending"
    OPEN = "open"
    CLOSED = "closed"
    REFUSED = "refused"  # the application has answered the handshake otherwise
    TAKEN = "taken"  # it has the socket itself


PENDING, OPEN, CLOSED, REFUSED, TAKEN = State


class Host(Protocol):
    """What has the WebSockets of an application: `websocket.WebSocketHost`."""

    application: Any
    server: Any

    def environ_of(self, connection: Any, request: Request) -> dict[str, Any]:
        """The environ of a handshake."""

    def variables(self, socket: GeventWebSocket) -> dict[str, Any]:
        """What an environ has because of the WebSocket."""

    def spare_environ(self, socket: GeventWebSocket) -> None:
        """Have an idle one make its environ again, unless something was put there."""


class Handler:
    """What `WebSocket.handler` is: the request, as the handler of gevent's server shows it."""

    __slots__ = ("client_address", "server", "websocket")

    socket = None

    def __init__(self, server: Any, socket: GeventWebSocket, address: Any) -> None:
        self.server = server
        self.websocket = socket
        self.client_address = address
        server.clients[address] = Client(address, socket)

    @property
    def active_client(self) -> Any:
        return self.server.clients[self.client_address]

    @property
    def application(self) -> Any:
        return self.server.application

    @property
    def environ(self) -> dict[str, Any]:
        return self.websocket.environ

    @property
    def logger(self) -> Any:
        return self.server.logger


class GeventWebSocket(WebSocket):  # type: ignore[misc]
    """`environ["wsgi.websocket"]`. Its methods block their greenlet alone."""

    __slots__ = (
        "_app", "_arrived", "_connection", "_environ", "_host", "_messages", "_owes_end",
        "_request", "_state", "handler",
    )  # fmt: skip

    def __init__(
        self,
        host: Host,
        connection: Any,
        request: Request,
        environ: dict[str, Any],
    ) -> None:
        self._host = host
        self._connection = connection
        self._request: Request | None = request
        self._environ: dict[str, Any] | None = environ
        self._state = PENDING
        self._messages: list[Any] = []
        self._arrived: Event | None = None
        self._owes_end = False  # the peer's end is still to be told by `receive`
        self._app: Any = None  # of a Resource, whose methods get the messages
        address = (connection.remote_ip, connection.remote_port)
        self.handler = Handler(host.server, self, address if address[0] else ("", connection.id))

    def __del__(self) -> None:
        """An object that nobody uses closes nothing: its host does that."""

    # ---- opening

    @property
    def is_pending(self) -> bool:
        return self._state is PENDING

    @property
    def connection(self) -> Any:
        return self._connection

    def refuse(self) -> None:
        """The application answers the handshake otherwise."""
        self._state = REFUSED
        self._forget()

    def take(self) -> None:
        """The application has the socket itself."""
        self._state = TAKEN
        self._forget()

    def accept(self) -> None:
        """Send the 101, unless that was decided before."""
        if self._state is not PENDING:
            return
        request, connection = self._request, self._connection
        assert request is not None
        self._request = None
        if connection.lifecycle is not ESTABLISHED:
            self._closed(connection)
            return
        self._state = OPEN
        try:
            request.upgrade(
                headers=self._subprotocol(request),
                on_message=self._received,
                on_close=self._closed,
            )
        except RuntimeError:  # the client did not wait for the answer
            self._closed(connection)
        except BaseException:
            self.refuse()
            raise

    def _subprotocol(self, request: Request) -> dict[str, str]:
        choose = getattr(self._host.application, "app_protocol", None)
        name = choose(self.environ["PATH_INFO"]) if choose is not None else ""
        offered = offered_subprotocols(request.headers)
        return {SUBPROTOCOL: name} if name and name in offered else {}

    def run(self, app: Any) -> None:
        """In place of `WebSocketApplication.handle`: on_open, and then no greenlet, but a callback
        for each message."""
        self.accept()
        app.protocol.on_open()
        while self._messages and self._state is OPEN:
            app.protocol.on_message(self._next())
        self._app = app
        if self._state is CLOSED:
            app.protocol.on_close()
        else:
            self._host.spare_environ(self)

    @property
    def has_callbacks(self) -> bool:
        """True once messages go to the methods of an application."""
        return self._app is not None

    # ---- receiving

    def _received(self, connection: Any, message: Any) -> None:
        if self._app is not None:
            self._app.protocol.on_message(_as_given(message))
            return
        self._messages.append(message)
        if self._arrived is not None:
            self._arrived.set()
        if len(self._messages) == MOST_WAITING:
            connection.pause_recv()

    def _next(self) -> Any:
        message = self._messages.pop(0)
        if len(self._messages) == MOST_WAITING // 2:
            self._connection.resume_recv()
        return _as_given(message)

    def receive(self) -> Any:
        """Wait for a message: str, or bytearray; None at the end. Raises WebSocketError after
        that."""
        self.accept()
        connection = self._connection
        has_waited = False
        while not self._messages:
            if self._state is not OPEN:
                if not (has_waited or self._owes_end):
                    raise WebSocketError("Connection is already closed")
                self._owes_end = False
                return None
            if self._arrived is None:
                self._arrived = Event()
            self._arrived.clear()
            with connection.server_context.greenlets.resting(connection):
                self._arrived.wait()
            has_waited = True
        return self._next()

    # ---- sending

    def send(self, message: Any, binary: bool | None = None) -> None:
        """Send a message: text if it is a str, unless `binary` says it. Waits while the peer does
        not take it; raises WebSocketError if it has gone."""
        is_binary = not isinstance(message, str) if binary is None else binary
        self.send_frame(message, self.OPCODE_BINARY if is_binary else self.OPCODE_TEXT)

    def send_frame(self, message: Any, opcode: int) -> None:
        """Send a frame: a whole message, a Ping, a Pong or a Close."""
        self.accept()
        connection = self._connection
        if self._state is not OPEN:
            raise WebSocketError(DEAD)
        while connection.is_full:
            if not connection.drain(connection.server_context.limits.send_timeout or None):
                raise WebSocketError(DEAD)
        if opcode == self.OPCODE_TEXT:
            is_sent = connection.send(_as_text(message))
        elif opcode == self.OPCODE_BINARY:
            is_sent = connection.send(_as_bytes(message))
        elif opcode == self.OPCODE_PING:
            is_sent = connection.ping(_as_bytes(message))
        elif opcode == self.OPCODE_PONG:
            is_sent = connection.send(frame(FIN | PONG, _as_bytes(message)), raw=True)
        elif opcode == self.OPCODE_CLOSE:
            code, reason = parse_close(_as_bytes(message))
            self.close(code, reason)
            return
        else:
            raise WebSocketError(f"no frame of opcode {opcode!r} can be sent")
        if not is_sent:
            raise WebSocketError(DEAD)

    # ---- the end

    @property
    def closed(self) -> bool:
        self.accept()
        return self._state is not OPEN

    def close(self, code: int = 1000, message: str | bytes = b"") -> None:
        """Close it with this code and reason; `receive` returns None. Nothing happens to one that
        is closed."""
        self.accept()
        if self._state is not OPEN:
            return
        reason = _as_text(message).encode()[:123].decode(errors="ignore")
        connection = self._connection
        try:
            connection.close(code=code, reason=reason)
        except ValueError:  # a code that RFC 6455 section 7.4 does not let be sent
            connection.close(reason=reason)
        self._end()

    def _end(self) -> None:
        self._state = CLOSED
        self._forget()
        if self._arrived is not None:
            self._arrived.set()

    def _closed(self, _: Any) -> None:
        self._owes_end = self._state is OPEN
        self._end()
        if self._app is not None:
            self._app.protocol.on_close()

    def _forget(self) -> None:
        clients = self.handler.server.clients
        address = self.handler.client_address
        if address in clients and clients[address].ws is self:
            del clients[address]

    # ---- what else applications look at

    @property
    def environ(self) -> dict[str, Any]:
        if self._environ is None:
            self._environ = self._host.environ_of(self._connection, self._connection.request)
            self._environ.update(self._host.variables(self))
        return self._environ

    def forget_environ(self) -> None:
        """Make it again when it is asked for."""
        self._environ = None

    @property
    def stream(self) -> Any:
        self.accept()
        return SimpleNamespace(handler=self.handler, read=self.raw_read, write=self.raw_write)

    @property
    def raw_write(self) -> Callable[[bytes], object]:
        connection = self._connection
        return lambda data: connection.send(data, raw=True)

    @property
    def raw_read(self) -> Callable[[int], bytes]:
        return lambda _: b""  # gworker has read it

    @property
    def current_app(self) -> Any:
        self.accept()
        return super().current_app


def _as_given(message: Any) -> Any:
    return bytearray(message) if isinstance(message, bytes) else message


def _as_text(message: Any) -> str:
    if isinstance(message, bytes | bytearray | memoryview):
        return bytes(message).decode()
    return str(message)


def _as_bytes(message: Any) -> bytes:
    return message.encode() if isinstance(message, str) else bytes(memoryview(message))
