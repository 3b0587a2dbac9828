"""TLS handshakes in the hub: no greenlet, one watcher, either side.

    Handshake      one of them, of a client or of a server: `done` or `failed` is called, once
    Handshaker     all those of one Worker's newcomers, each under `handshake_timeout`

Nothing may have been read from the socket that the peer meant for TLS: OpenSSL reads the descriptor
itself. Whoever expects something else before the handshake (a PROXY protocol header) has to look at
it with MSG_PEEK, and read that exactly; then it calls the Handshaker with the same socket.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from ssl import SSLCertVerificationError, SSLEOFError, SSLError, SSLWantReadError, SSLWantWriteError
from typing import TYPE_CHECKING, Any

from gworker.http.errors import RefusedRequest, without_content
from gworker.system.peer_address import SocketAddress, text
from gworker.tls.socket import TlsSocket

if TYPE_CHECKING:
    import _socket
    from ssl import SSLContext

    from gworker.connection.context import ServerContext

log = logging.getLogger("gworker")

READ, WRITE = 1, 2
"""libev's event bits."""

REASONS = {
    "HTTP_REQUEST": "plain HTTP was sent to a TLS port",
    "WRONG_VERSION_NUMBER": "what was sent is no TLS",
    "UNSUPPORTED_PROTOCOL": "the peer speaks no version of TLS that is allowed here",
    "UNKNOWN_PROTOCOL": "the peer speaks no version of TLS that is allowed here",
    "NO_SHARED_CIPHER": "no cipher suite in common",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer has shown no certificate, and one is required",
    "NO_APPLICATION_PROTOCOL": "no protocol in common (ALPN)",
    "CALLBACK_FAILED": "no protocol in common (ALPN)",
}
"""OpenSSL's names of what goes wrong most often, in words."""

PLAIN_HTTP = re.compile(rb"[A-Z]{3,20} (?:/|\*|http)")
"""The beginning of a request in clear. A record of TLS begins with 22."""

LOOK = 32
"""Bytes that are looked at for that."""

NOT_IN_CLEAR = "this port speaks TLS: ask with https, not http"


class Handshake:
    """One handshake, from now on until `done` or `failed` (with the reason) is called, or it is
    cancelled.

    Never raises, and has no deadline of its own. What it was waiting for is over when either is
    called; the socket is then the callee's.
    """

    __slots__ = ("__weakref__", "_done", "_events", "_failed", "_loop", "_watcher", "socket")

    def __init__(
        self,
        loop: Any,
        socket: TlsSocket,
        done: Callable[[], object],
        failed: Callable[[str], object],
    ) -> None:
        self.socket = socket
        self._loop = loop
        self._done = done
        self._failed = failed
        self._events = 0
        self._watcher: Any = None

    def start(self, events: int = READ) -> None:
        """Begin when the descriptor is readable (WRITE: writable, as for a client that speaks
        first)."""
        self._await(events)

    def cancel(self) -> None:
        """Wait for nothing more. The socket stays as it is."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    def _await(self, events: int) -> None:
        if self._watcher is None or self._events != events:
            self.cancel()
            self._events = events
            self._watcher = self._loop.io(self.socket.fileno(), events)
            self._watcher.start(self._go_on)

    def _go_on(self) -> None:
        try:
            self.socket.handshake()
        except SSLWantReadError:
            self._await(READ)
        except SSLWantWriteError:
            self._await(WRITE)
        except (OSError, ValueError) as error:
            self.cancel()
            self._failed(why(error))
        else:
            self.cancel()
            self._done()


def why(error: Exception) -> str:
    """What went wrong in a handshake, in one line."""
    if isinstance(error, SSLCertVerificationError):
        return f"the peer's certificate is refused: {error.verify_message or error}"
    if isinstance(error, SSLEOFError):
        return "the peer has closed the connection"
    if isinstance(error, SSLError):
        reason = error.reason or ""
        if reason in REASONS:
            return REASONS[reason]
        if "ALERT" in reason:
            return f"the peer has refused: {_words(reason)}"
        return _words(reason) if reason else str(error)
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _words(reason: str) -> str:
    return reason.replace("_", " ").lower()


Take = Callable[["_socket.socket", SocketAddress], object]


class Handshaker:
    """What an Acceptor gives its newcomers to when they have to shake hands first. `take` gets
    those that have.

    context: returns the context to begin with. Those in a handshake are in `service.newcomers`;
    they count towards `max_connections` and `max_connections_per_address`.
    """

    def __init__(
        self, service: ServerContext, context: Callable[[], SSLContext], take: Take
    ) -> None:
        self._service = service
        self._context = context
        self._take = take

    def __call__(self, socket: _socket.socket, remote: SocketAddress) -> None:
        """Begin. Raises nothing that the peer could be the cause of."""
        Newcomer(
            self._service, TlsSocket(socket, self._context(), server_side=True), remote, self._take
        ).begin()


class Newcomer(Handshake):
    """One that was accepted and is no connection yet."""

    __slots__ = ("_has_begun", "_remote", "_service", "_take")

    def __init__(
        self, service: ServerContext, socket: TlsSocket, remote: SocketAddress, take: Take
    ) -> None:
        super().__init__(service.loop, socket, self._become, self._refuse)
        self._service = service
        self._remote = remote
        self._take = take
        self._has_begun = False

    def begin(self) -> None:
        """Wait for its first words."""
        service = self._service
        service.newcomers.add(self)
        if service.per_address is not None:
            service.per_address.add(self._remote)
        service.deadlines.set(self, service.limits.handshake_timeout)
        self.start()

    def _go_on(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            if self._is_plain_http():
                self._refuse(REASONS["HTTP_REQUEST"])
                return
        super()._go_on()

    def _is_plain_http(self) -> bool:
        """True for a request in clear, which is answered."""
        try:
            begin = self.socket.peek(LOOK)
        except OSError:
            return False
        if not PLAIN_HTTP.match(begin):
            return False
        reply = RefusedRequest(NOT_IN_CLEAR).reply
        self.socket.refuse_in_clear(without_content(reply) if begin.startswith(b"HEAD ") else reply)
        return True

    def deadline_passed(self) -> None:
        """It did not finish in `handshake_timeout`."""
        self._refuse("not finished in time")

    def destroy(self) -> None:
        """Send it away without a word in the log, if it still shakes hands: the process ends."""
        if self in self._service.newcomers:
            self._leave()
            self._close()

    def callback_failed(self) -> None:
        """See `loop_errors`: one newcomer less."""
        self.destroy()

    def let_go(self) -> None:
        """In a process that user code has forked: it is the parent's to go on with."""
        self._leave()
        self.socket.let_go()

    def _become(self) -> None:
        self._leave()
        try:
            self._take(self.socket, self._remote)
        except BaseException:  # a user's protocol that cannot be made
            self._service.report_exception("cannot serve a connection from %s", self._remote)
            self._close()

    def _refuse(self, reason: str) -> None:
        self.destroy()
        peer = text(self._remote) or "a unix socket"
        log.info("TLS handshake with %s: %s", peer, reason, extra={"kind": reason})

    def _leave(self) -> None:
        self.cancel()
        # They refer to this object: break the cycle, so that it is freed now.
        del self._done, self._failed
        service = self._service
        service.newcomers.discard(self)
        if service.per_address is not None:
            service.per_address.remove(self._remote)
        service.deadlines.clear(self)

    def _close(self) -> None:
        # Shut down first: else unread bytes would make it a reset, and the alert that says why
        # would be lost.
        service = self._service
        service.lingerer.close(self.socket)
        service.tell_closed()
