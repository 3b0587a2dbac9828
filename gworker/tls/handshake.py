"""TLS handshakes in the hub: no greenlet, one watcher, either side.

Nothing may have been read from the socket that the peer meant for TLS: OpenSSL reads the descriptor
itself. What comes before the handshake (a PROXY protocol header) has to be peeked at with MSG_PEEK
and then read exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from ssl import SSLCertVerificationError, SSLEOFError, SSLError, SSLWantReadError, SSLWantWriteError

from gworker.system.epoll import READ, WRITE
from gworker.system.event_loop import Loop, Watcher
from gworker.tls.socket import TlsSocket

# What OpenSSL's names of the most frequent errors mean.
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


class Handshake:
    """One handshake. It ends with one call: of `done`, or of `failed` with the reason.

    It never raises, and has no deadline of its own. Its watcher is closed before it calls either;
    the socket is then the callee's.
    """

    __slots__ = ("_done", "_events", "_failed", "_loop", "_watcher", "socket")

    def __init__(
        self,
        loop: Loop,
        socket: TlsSocket,
        done: Callable[[], object],
        failed: Callable[[str], object],
    ) -> None:
        self.socket = socket
        self._loop = loop
        self._done = done
        self._failed = failed
        self._events = 0
        self._watcher: Watcher | None = None

    def start(self, events: int = READ) -> None:
        """Advance when the descriptor is readable (WRITE: writable, as for a client, which speaks
        first)."""
        if self._watcher is None or self._events != events:
            self.cancel()
            self._events = events
            self._watcher = self._loop.io(self.socket.fileno(), events)
            self._watcher.start(self.advance)

    def advance(self) -> None:
        """Do what is possible now, and wait for the rest."""
        try:
            self.socket.handshake()
        except SSLWantReadError:
            self.start(READ)
        except SSLWantWriteError:
            self.start(WRITE)
        except (OSError, ValueError) as error:
            self.cancel()
            self._failed(why(error))
        else:
            self.cancel()
            self._done()

    def cancel(self) -> None:
        """Wait no longer. The socket stays as it is."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    def callback_failed(self) -> None:
        """See `loop_errors`: a fault of ours has ended this handshake."""
        self.cancel()
        self._failed("an exception here")


def why(error: Exception) -> str:
    """What went wrong in a handshake, in one line."""
    if isinstance(error, SSLCertVerificationError):
        return f"the peer's certificate is refused: {error.verify_message or error}"
    if isinstance(error, SSLEOFError):
        return "the peer has closed the connection"
    if isinstance(error, SSLError) and error.reason:
        words = REASONS.get(error.reason) or error.reason.replace("_", " ").lower()
        return f"the peer has refused: {words}" if "ALERT" in error.reason else words
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
