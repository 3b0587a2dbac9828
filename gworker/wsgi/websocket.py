"""WebSocket handshakes that an application decides about.

Libraries have three ways: `environ["wsgi.websocket"]` of gevent-websocket, the socket itself in
`environ["gunicorn.socket"]`, and an answer of HTTP. All are there; the first that is used counts.
The application runs in a greenlet beside the connection's handler, as it may wait for messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from itertools import chain
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gevent import GreenletExit

from gworker.app.worker import Worker
from gworker.connection.dispatcher import AnyConnection
from gworker.connection.http_exchange import decide
from gworker.connection.http_protocol import http_protocol
from gworker.connection.state import ESTABLISHED
from gworker.http.request import Request
from gworker.wsgi.exchange import Exchange
from gworker.wsgi.lazy_socket import LazySocket

if TYPE_CHECKING:
    from gworker.wsgi.gevent_websocket import GeventWebSocket

log = logging.getLogger("gworker")

PATIENCE = 1.0
"""Seconds after which the 101 is sent to an application that does nothing with the object: it may
have kept it to send with later."""

# The keys of an environ that differ from those of one that is made again.
OWN = (
    "wsgi.early_hints", "gworker.client_disconnected", "wsgi.websocket", "wsgi.websocket_version",
    "gunicorn.socket",
)  # fmt: skip


class WebSocketHost:
    """The WebSockets of one application. make_environ: see `WsgiHost.environ_of`. server: what
    gevent-websocket's objects show as `handler.server`; its `clients` are those that are open, by
    their addresses."""

    def __init__(
        self,
        application: Any,
        make_environ: Callable[[AnyConnection, Request, Exchange], dict[str, Any]],
        declared: Worker,
    ) -> None:
        self._make_environ = make_environ
        self._is_eager = declared.options.get("websocket_accept") == "eager"
        self._decides = declared.callbacks.on_websocket_connect is not None
        self._warns = declared.options.get("origins") is None
        self._has_library = find_spec("geventwebsocket") is not None
        self.application = application
        self.server = SimpleNamespace(
            clients={},
            application=application,
            logger=logging.getLogger("geventwebsocket"),
            environ={},
        )

    def serve(self, connection: Any, request: Request) -> None:
        """Decide about the handshake `request`. Raises BadRequest for what is none."""
        if self._decides and decide(connection, request):
            return
        http_protocol(connection).offer(request)  # it is judged before the application sees it
        if self._warns and "Origin" in request.headers:
            self._warns = False
            log.warning(
                "pages of any origin may open WebSockets here, with the cookies of their users: "
                "see the option origins of a Worker"
            )
        connection.spawn(self._run, connection, request)

    def environ_of(self, connection: AnyConnection, request: Request) -> dict[str, Any]:
        """The environ of a handshake."""
        return self._make_environ(connection, request, Exchange(connection))

    def variables(self, socket: GeventWebSocket) -> dict[str, Any]:
        """What an environ has because of the WebSocket."""
        return {"wsgi.websocket": socket, "wsgi.websocket_version": "13"}

    def spare_environ(self, socket: GeventWebSocket) -> None:
        """Have an idle one make its environ again, unless something was put there."""
        environ = socket.environ
        again = self.environ_of(socket.connection, socket.connection.request)
        given = {name: value for name, value in environ.items() if name not in OWN}
        if given == {name: value for name, value in again.items() if name not in OWN}:
            socket.forget_environ()

    # ---- the application, in its greenlet

    def _run(self, connection: AnyConnection, request: Request) -> None:
        exchange = Exchange(connection)
        environ = self._make_environ(connection, request, exchange)
        socket: GeventWebSocket | None = None
        if self._has_library:
            from gworker.wsgi.gevent_websocket import GeventWebSocket, patch_library

            patch_library()
            socket = GeventWebSocket(self, connection, request, environ)
            environ.update(self.variables(socket))
        call = Call(connection, environ, exchange, socket)
        if socket is not None and self._is_eager:
            socket.accept()
        call.run(self.application)


class Call:
    """One call of the application with a handshake."""

    def __init__(
        self,
        connection: AnyConnection,
        environ: dict[str, Any],
        exchange: Exchange,
        socket: GeventWebSocket | None,
    ) -> None:
        self._connection = connection
        self._environ = environ
        self._exchange = exchange
        self._socket = socket
        self._lazy = environ["gunicorn.socket"] = LazySocket(self._detach)

    def _detach(self) -> Any:
        if self._is_pending and self._socket is not None:
            self._socket.take()
        connection: Any = self._connection
        return connection.detach()

    @property
    def _is_pending(self) -> bool:
        # The handshake is not answered, or by start_response alone.
        return not self._lazy.is_taken and (self._socket is None or self._socket.is_pending)

    def _start_response(self, *arguments: Any, **options: Any) -> Any:
        if self._is_pending:
            return self._exchange(*arguments, **options)
        return lambda _: None  # it is a WebSocket: what the application would answer is ignored

    def run(self, application: Any) -> None:
        timer = self._connection.server_context.loop.timer(PATIENCE)
        if self._socket is not None:
            timer.start(self._accept)
        try:
            self._finish(application(self._environ, self._start_response))
        except StopIteration:  # what Flask-Sock and Socket.IO raise when they had the socket
            if not self._lazy.is_taken:
                self._failed()
        except GreenletExit:  # the process does not wait any longer
            self._connection.destroy()
            raise
        except BaseException:
            self._failed()
        finally:
            timer.close()
            if self._socket is not None and self._socket.is_pending:
                self._socket.refuse()
            if self._lazy.is_taken:
                self._lazy.end()
            elif self._connection.parser_paused:
                self._connection.continue_parsing()

    def _accept(self) -> None:
        # In the hub.
        if self._is_pending and self._socket is not None and not self._exchange.status:
            connection: Any = self._connection
            connection.spawn(self._socket.accept)

    def _finish(self, result: Any) -> None:
        rest = _Rest(result)
        try:
            rest.begin()  # an application that is a generator begins only now
            if self._is_pending and self._exchange.status:
                if self._socket is not None:
                    self._socket.refuse()
                self._exchange.finish(result if rest.is_whole else rest)
                return
            if not self._lazy.is_taken:
                for _ in rest:
                    pass
                self._close(1000)
        finally:
            rest.close()

    def _close(self, code: int) -> None:
        if self._socket is not None and not self._socket.has_callbacks:
            self._socket.close(code)
        elif self._socket is None:
            raise AssertionError("the application has not called start_response()")

    def _failed(self) -> None:
        if self._lazy.is_taken or not self._is_pending:
            self._connection.handler_failed("the WSGI application")
        elif self._connection.lifecycle is ESTABLISHED:
            self._exchange.failed()


class _Rest:
    # What an application has returned, of which the first item was asked for.
    def __init__(self, result: Iterable[bytes]) -> None:
        self._result = result
        self._items: Iterator[bytes] = iter(())
        self._is_closed = False
        self.is_whole = isinstance(result, list | tuple)

    def begin(self) -> None:
        items = iter(self._result)
        first = [] if self.is_whole else [item for item in [next(items, None)] if item is not None]
        self._items = chain(first, items)

    def __iter__(self) -> Iterator[bytes]:
        return self._items

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            getattr(self._result, "close", lambda: None)()
