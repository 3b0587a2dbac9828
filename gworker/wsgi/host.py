"""An application as the on_message of a Worker's connections."""

from __future__ import annotations

import logging
from collections.abc import Callable
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from gworker.app.foreign_interfaces import described
from gworker.app.worker import Worker
from gworker.connection.dispatcher import AnyConnection
from gworker.core import ApplicationCore, make_environ
from gworker.http.request import OfferingRequest, Request
from gworker.system.address import Address
from gworker.version import __version__
from gworker.wsgi.errors import ErrorLog
from gworker.wsgi.exchange import Exchange
from gworker.wsgi.file_wrapper import FileWrapper
from gworker.wsgi.input import EMPTY, open_input
from gworker.wsgi.socket_io import WARNING, polls
from gworker.wsgi.websocket import WebSocketHost

log = logging.getLogger("gworker")

STREAM_ABOVE = 65536
"""Bytes of a body that are here before the application is called: more would take more memory than
a greenlet that waits for them. A Worker's own stream_above goes first."""

LOCAL = ("127.0.0.1", "::1", "")  # what a proxy on this machine connects from; "": unix sockets

FORWARDED = ("HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_FOR")


class WsgiHost(ApplicationCore):
    """Answers each request with what `declared.wsgi` says.

    address: where the Worker listens, with its port. has_proxies: some peers are trusted to say how
    their clients have asked. What is no request, as the messages of a
    WebSocket, goes to the Worker's own on_message.
    """

    def __init__(self, declared: Worker, address: Address, has_proxies: bool = False) -> None:
        self._on_message: Callable[..., Any] | None = declared.callbacks.on_message
        self._streams_chunks = declared.options.get("wsgi_chunked") == "stream"
        root = declared.options.get("root_path", "")
        template: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https" if address.tls else "http",
            "wsgi.errors": ErrorLog(),
            "wsgi.multithread": True,  # greenlets interleave
            "wsgi.multiprocess": declared.count > 1,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input": EMPTY,
            "wsgi.input_terminated": True,
            "SERVER_SOFTWARE": f"gworker/{__version__}",
            "SERVER_NAME": address.host,
            "SERVER_PORT": str(address.port),
            "SCRIPT_NAME": root,
        }
        super().__init__(declared.wsgi, template, root, Exchange, Request)
        self.is_plain = not has_proxies
        self.__qualname__ = described(declared.wsgi)  # as what is slow, or hangs, is called
        self.websockets = WebSocketHost(self.application, self.environ_of, declared)

    def serve(self, connection: AnyConnection, request: Any) -> Any:
        if not isinstance(request, Request):
            handler = self._on_message
            return None if handler is None else handler(connection, request)
        exchange = Exchange(connection)
        body: IO[bytes] = EMPTY
        try:
            if isinstance(request, OfferingRequest) and request.is_websocket:
                self.websockets.serve(connection, request)
                return None
            environ = make_environ(self.template, request, self.root)
            self._complete(environ, connection, request, exchange)
            if request.__class__ is not Request or request.body:
                body = environ["wsgi.input"] = open_input(environ, request, self._streams_chunks)
            exchange.finish(self.application(environ, exchange))
        except BaseException:
            exchange.failed()
        finally:
            if isinstance(body, SpooledTemporaryFile):
                body.close()
        return None

    def environ_of(
        self, connection: AnyConnection, request: Request, exchange: Exchange
    ) -> dict[str, Any]:
        """The environ of a request without a body."""
        environ = make_environ(self.template, request, self.root)
        self._complete(environ, connection, request, exchange)
        return environ

    def _complete(
        self,
        environ: dict[str, Any],
        connection: AnyConnection,
        request: Request,
        exchange: Exchange,
    ) -> None:
        environ["wsgi.early_hints"] = exchange.early_hints
        environ["gworker.client_disconnected"] = exchange.client_disconnected
        self._say_who(environ, connection, request)

    def _say_who(self, environ: dict[str, Any], connection: Any, request: Request) -> None:
        ip = environ["REMOTE_ADDR"] = connection.remote_ip
        server = connection.server_context
        if server.forwarders and server.forwarders.has_peer(connection.io.remote):
            environ["wsgi.url_scheme"] = request.scheme
        elif self.watches and ip in LOCAL and any(each in environ for each in FORWARDED):
            self.watches = False
            log.warning(
                "a proxy on this machine says where its requests come from (X-Forwarded-…), and "
                "nobody trusts it: wsgi.url_scheme stays %s. If it is yours, say "
                "--forwarded-allow-ips %s",
                environ["wsgi.url_scheme"], ip or "unix",
            )  # fmt: skip
        if ip:
            environ["REMOTE_PORT"] = str(connection.remote_port)
        else:
            _name_server(environ)


def _name_server(environ: dict[str, Any]) -> None:
    # A unix socket has no name that a client could use.
    host = environ.get("HTTP_HOST", "") or "localhost"
    name, _, port = host.rpartition(":")
    default = "443" if environ["wsgi.url_scheme"] == "https" else "80"
    environ["SERVER_NAME"] = name if name and port.isdigit() else host
    environ["SERVER_PORT"] = port if name and port.isdigit() else default


def install(declared: Worker, address: Address, has_proxies: bool) -> None:
    """Have the application of `declared` answer its requests, before a connection is made. Of
    several addresses the first one is that of the environ."""
    if not isinstance(declared.callbacks.on_message, WsgiHost):
        declared.options.setdefault("stream_above", STREAM_ABOVE)
        declared.options["streams_stalled"] = True
        declared.callbacks.on_message = WsgiHost(declared, address, has_proxies)
        if declared.count > 1 and declared.id == 0 and polls(declared.wsgi):
            log.warning(WARNING, declared.count)
