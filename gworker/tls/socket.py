"""A socket that speaks TLS, with the methods of the raw one, and what is known of it afterwards.

`TlsSocket` takes the place of a `_socket.socket`: a `Transport` reads and writes either. OpenSSL
works on the descriptor itself, without a buffer of Python's: an idle connection keeps no bytes in
memory beyond OpenSSL's own state, and none is copied on the way.

`handshake.Handshake` drives the handshake; `send` and `recv` are for the time after it.

An event loop that polls the descriptor relies on this:

- A record holds at most 16384 bytes, and `recv` asks for at least that many. So no decrypted bytes
  stay where epoll cannot see them, and reading may stop at any point. Nothing is read ahead either
  (SSL_CTX_set_read_ahead(3)).
- An end or an error behind the bytes that `recv` returns keeps the descriptor readable.
- Both sides refuse renegotiation (`SSL_OP_NO_RENEGOTIATION`), so a write never waits for the peer.
  A read may have to write: the answer to a TLS 1.3 KeyUpdate (RFC 8446, 4.6.3). See
  `WantsWriting`.
- Bytes that a write did not take must be offered again, the same or more of them (SSL_write(3)). A
  write buffer does that; and OpenSSL gets no more than a record at once, so they are few.
- A stream that ends without close_notify may have been cut by an attacker (RFC 8446, 6.1): `recv`
  raises then, for every protocol. Whole messages received before are unaffected.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
from dataclasses import dataclass, field
from ssl import SSLContext, SSLError, SSLWantReadError, SSLWantWriteError, SSLZeroReturnError
from typing import Any, NoReturn

RECORD = 16384  # the largest number of bytes in one record (RFC 8446, 5.1)

Sendable = bytes | bytearray | memoryview


class WantsWriting(BlockingIOError):
    """`recv` cannot go on before the descriptor can be written: waiting for it to be readable would
    spin."""


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """What was agreed with the peer."""

    version: str
    """`TLSv1.2` or `TLSv1.3`."""
    cipher: str
    """The cipher suite, by OpenSSL's name."""
    alpn: str | None
    """The protocol chosen by ALPN (RFC 7301); None: there was no choice."""
    server_name: str | None
    """The host that the client asked for by SNI (RFC 6066, 3), in lower case, or None."""
    peer_cert: dict[str, Any] | None = field(default=None, repr=False)
    """The peer's verified certificate, as `ssl.SSLSocket.getpeercert()` shows it, or None."""
    peer_cert_der: bytes | None = field(default=None, repr=False)
    """The same certificate as it was sent (DER)."""

    @property
    def sni(self) -> str | None:
        """The same as `server_name`."""
        return self.server_name


class TlsSocket(_socket.socket):
    """A non-blocking socket with TLS on it. Takes the descriptor out of `plain`.

    server_name: for a client, the host whose certificate is expected (also sent as SNI). Raises
    ValueError for one that can be no host name.
    """

    __slots__ = ("__weakref__", "_blocked", "_ended", "_info", "_tls", "is_refused", "server_name")

    def __init__(
        self,
        plain: _socket.socket,
        context: SSLContext,
        server_side: bool,
        server_name: str | None = None,
    ) -> None:
        super().__init__(plain.family, plain.type, plain.proto, fileno=plain.detach())
        self.setblocking(False)
        self.server_name = server_name
        # The client offers protocols by ALPN, and none that is spoken here.
        self.is_refused = False
        self._blocked = False  # OpenSSL holds a record that the kernel did not take
        self._ended = False  # the peer has sent close_notify
        self._info: TlsInfo | None = None
        # ssl.SSLSocket would be a further object, with gevent's own waiting in it.
        self._tls: Any = context._wrap_socket(  # type: ignore[attr-defined]
            self, server_side, None if server_side else server_name, owner=self
        )

    @property
    def is_over(self) -> bool:
        """True once one side has sent close_notify: nothing that follows counts."""
        return self._tls is None or self._ended

    # ---- the handshake

    def peek(self, size: int) -> bytes:
        """What waits in the descriptor, up to `size` bytes: before the handshake, in clear. Raises
        OSError."""
        return super().recv(size, _socket.MSG_PEEK)

    def refuse_in_clear(self, reply: bytes) -> None:
        """In place of a handshake: send `reply` past TLS, and no more."""
        self._tls = None
        with contextlib.suppress(OSError):
            super().send(reply)

    def handshake(self) -> None:
        """Go on with it as far as possible. Raises SSLWantReadError, SSLWantWriteError, or what has
        gone wrong."""
        self._tls.do_handshake()

    def use(self, context: SSLContext) -> None:
        """In a handshake, once the host is known: show the certificate of `context`."""
        self._tls.context = context

    @property
    def info(self) -> TlsInfo | None:
        """What was agreed; None before the end of the handshake."""
        if self._info is None and self._tls is not None and self._tls.version() is not None:
            tls = self._tls
            der = tls.getpeercert(True)
            self._info = TlsInfo(
                tls.version(),
                tls.cipher()[0],
                tls.selected_alpn_protocol(),
                self.server_name,
                (tls.getpeercert(False) or None) if der else None,
                der,
            )
        return self._info

    # ---- the methods of a raw socket

    def _past_tls(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("not possible with TLS: only recv and send are")

    recv_into = recvfrom = recvfrom_into = recvmsg = recvmsg_into = _past_tls
    sendall = sendto = sendmsg = _past_tls

    def recv(self, size: int) -> bytes:  # type: ignore[override]
        """Up to `size` bytes, of several records if the peer fills them; b"" after close_notify.

        size: RECORD or more. Raises BlockingIOError, WantsWriting, or OSError: the peer is gone or
        has broken TLS.
        """
        tls = self._tls
        if tls is None:  # to be discarded: close_notify was sent
            return super().recv(size)
        try:
            data: bytes = tls.read(size)
        except SSLWantReadError:
            raise BlockingIOError from None
        except SSLWantWriteError:
            raise WantsWriting from None
        except SSLZeroReturnError:
            data = b""
        if len(data) == RECORD:
            return self._more(data, size)
        if not data:
            self._ended = True
        return data

    def _more(self, first: bytes, size: int) -> bytes:
        # Read what follows a full record, which is seldom the last. The next `recv` finds an end
        # or an error again.
        pieces = [first]
        try:
            while len(pieces[-1]) == RECORD and (len(pieces) + 1) * RECORD <= size:
                pieces.append(self._tls.read(RECORD))
        except (SSLWantReadError, SSLWantWriteError):
            pass
        except OSError:
            self._keep_readable()
        if not pieces[-1]:
            self._keep_readable()
        return b"".join(pieces)

    def _keep_readable(self) -> None:
        # OpenSSL knows of an end, and the descriptor may be empty: shut it down for reading, so
        # that epoll reports an end from now on.
        #
        # The peer of a TCP socket learns nothing from it, and nothing that follows counts.
        with contextlib.suppress(OSError):
            super().shutdown(_socket.SHUT_RD)

    def send(self, data: Sendable) -> int:  # type: ignore[override]
        """How many bytes of `data` were taken; the others have to be offered again. Raises
        BlockingIOError, OSError."""
        if self._tls is None:  # close_notify was sent
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        size, sent = len(data), 0
        # One record at a time: of a larger piece OpenSSL does not tell how much it took.
        pieces = memoryview(data) if size > RECORD else data
        try:
            while sent < size:
                sent += self._tls.write(pieces[sent : sent + RECORD])
                self._blocked = False
        except SSLWantWriteError:
            self._blocked = True
            if not sent:
                raise BlockingIOError from None
        return sent

    def send_pieces(self, *pieces: Sendable) -> int:
        """As `send`, for several pieces in order; each of them begins a record."""
        sent = 0
        for piece in pieces:
            try:
                taken = self.send(piece)
            except BlockingIOError:
                if not sent:
                    raise
                break
            sent += taken
            if taken < len(piece):
                break
        return sent

    def shutdown(self, how: int) -> None:
        """Send close_notify, if the peer takes it now, and an end of file. Nothing more is
        decrypted."""
        if how != _socket.SHUT_RD:
            self._send_close_notify()
        super().shutdown(how)

    def setsockopt(self, *arguments: Any) -> None:
        """As of a raw socket. SO_LINGER means a reset: then close_notify, a clean end, is not
        sent."""
        if arguments[1] == _socket.SO_LINGER:
            self._blocked = True
        super().setsockopt(*arguments)

    def close(self) -> None:
        """Close it, with close_notify if the peer has sent that."""
        if self._ended:
            self._send_close_notify()
        self._forget()
        super().close()

    def let_go(self) -> None:
        """Close the descriptor and nothing else: the connection is another process's."""
        self._tls = None
        super().close()

    def _send_close_notify(self) -> None:
        # Send close_notify, once and without waiting; not behind a record of which a part is
        # missing.
        if self._tls is not None and not self._blocked:
            with contextlib.suppress(OSError):  # the peer's own is not awaited
                self._tls.shutdown()
        self._forget()

    def _forget(self) -> None:
        # Free OpenSSL's memory; `info` stays.
        with contextlib.suppress(SSLError, ValueError):
            self.info  # noqa: B018
        self._tls = None
