"""TLS handshakes of accepted sockets, each under `handshake_timeout`, before they become
connections."""

from __future__ import annotations

import _socket
import logging
import re
from collections.abc import Callable
from ssl import SSLContext

from gworker.connection.context import ServerContext
from gworker.http.errors import RefusedRequest, without_content
from gworker.server.acceptor import Serve
from gworker.system.epoll import READ
from gworker.system.peer_address import SocketAddress, text
from gworker.tls.handshake import REASONS, Handshake
from gworker.tls.socket import TlsSocket

log = logging.getLogger("gworker")

# The beginning of a request in clear. A record of TLS begins with 22.
PLAIN_HTTP = re.compile(rb"[A-Z]{3,20} (?:/|\*|http)")

PEEK_BYTES = 32

NOT_IN_CLEAR = "this port speaks TLS: ask with https, not http"


class TlsAccept:
    """The step between an Acceptor and `serve`, which gets the sockets whose handshake is done.

    context: returns the SSLContext to begin with. Sockets in a handshake are in
    `Registry.handshaking`; they count towards `max_connections` and `max_connections_per_address`.
    """

    def __init__(
        self, server: ServerContext, context: Callable[[], SSLContext], serve: Serve
    ) -> None:
        self._server = server
        self._context = context
        self._serve = serve

    def __call__(self, socket: _socket.socket, remote: SocketAddress) -> None:
        """Begin. Raises nothing that the peer could be the cause of."""
        tls = TlsSocket(socket, self._context(), server_side=True)
        _Handshaking(self._server, tls, remote, self._serve).begin()


class _Handshaking:
    __slots__ = ("_handshake", "_remote", "_serve", "_server", "_socket", "_watcher")

    def __init__(
        self, server: ServerContext, socket: TlsSocket, remote: SocketAddress, serve: Serve
    ) -> None:
        self._server = server
        self._socket = socket
        self._remote = remote
        self._serve = serve
        self._handshake: Handshake | None = None
        self._watcher = server.loop.io(socket.fileno(), READ)

    def begin(self) -> None:
        server = self._server
        server.registry.handshaking.add(self)
        server.registry.per_address.add(self._remote)
        server.timeouts.expect(self, "handshake")
        self._watcher.start(self._on_first_bytes)

    def _on_first_bytes(self) -> None:
        if self._is_plain_http():
            self._refuse(REASONS["HTTP_REQUEST"])
            return
        self._stop_watching()
        self._handshake = Handshake(self._server.loop, self._socket, self._done, self._refuse)
        self._handshake.advance()

    def _is_plain_http(self) -> bool:
        try:
            begin = self._socket.peek(PEEK_BYTES)
        except OSError:
            return False
        if not PLAIN_HTTP.match(begin):
            return False
        reply = RefusedRequest(NOT_IN_CLEAR).reply
        head_only = begin.startswith(b"HEAD ")
        self._socket.refuse_in_clear(without_content(reply) if head_only else reply)
        return True

    def deadline_passed(self) -> None:
        self._refuse("not finished in time")

    def destroy(self) -> None:
        """Close it, with nothing in the log, if it still shakes hands: the process ends."""
        if self in self._server.registry.handshaking:
            self._leave()
            self._close()

    def callback_failed(self) -> None:
        # See `loop_errors`: a fault of ours costs this socket only.
        self.destroy()

    def let_go(self) -> None:
        self._leave()
        self._socket.let_go()

    def _done(self) -> None:
        self._leave()
        try:
            self._serve(self._socket, self._remote)
        except BaseException:  # a user's protocol that cannot be made
            self._server.report_exception("cannot serve a connection from %s", self._remote)
            self._close()

    def _refuse(self, reason: str) -> None:
        self.destroy()
        peer = text(self._remote) or "a unix socket"
        log.info("TLS handshake with %s: %s", peer, reason, extra={"kind": reason})

    def _stop_watching(self) -> None:
        self._watcher.stop()
        self._watcher.close()

    def _leave(self) -> None:
        handshake, self._handshake = self._handshake, None  # break the reference cycle
        if handshake is None:
            self._stop_watching()
        else:
            handshake.cancel()
        server = self._server
        server.registry.handshaking.discard(self)
        server.registry.per_address.remove(self._remote)
        server.timeouts.expect(self, "")

    def _close(self) -> None:
        # Unread bytes would make close(2) a reset, and the alert that says why would be lost.
        self._server.lingerer.close(self._socket)
        self._server.registry.notify_closed()
