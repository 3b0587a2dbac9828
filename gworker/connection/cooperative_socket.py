"""The socket of a `socketserver` handler: cooperative and counted, over TLS as well."""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
from collections.abc import Callable
from ssl import SSLEOFError, SSLError
from typing import Any, NoReturn

import gevent.socket

from gworker.tls.socket import TlsSocket, WantsWriting

READ_SIZE = 65536  # bytes per read of TLS: several records


class CountingSocket(gevent.socket.socket):
    """A cooperative socket whose bytes are counted, for `status` and `connections`."""

    count: Callable[[int, int], object]  # called with the bytes read and the bytes written
    _read_event: Any
    _sock: Any

    def recv(self, *args: Any) -> bytes:
        data = super().recv(*args)
        self.count(len(data), 0)
        return data

    def recv_into(self, *args: Any) -> int:
        size = super().recv_into(*args)
        self.count(size, 0)
        return size

    def send(self, *args: Any, **options: Any) -> int:
        size = super().send(*args, **options)
        self.count(0, size)
        return size

    @property
    def is_waiting(self) -> bool:
        """True while the handler waits for its peer to send something."""
        watcher: Any = self._read_event
        return watcher is not None and watcher.active

    def end(self, how: int) -> None:
        """Let the handler find the end of the stream. gevent's own shutdown() would raise in it
        instead."""
        with contextlib.suppress(OSError):  # the peer was quicker
            self._sock.shutdown(how)


class TlsCountingSocket(CountingSocket):
    """The same over TLS: it waits on a copy of the descriptor, and has `secure` read and write.

    As of ssl.SSLSocket, flags are not possible, nor is what would read or write past TLS.
    `getpeercert`, `version` and `selected_alpn_protocol` are as there.
    """

    secure: TlsSocket
    _wait: Any
    _write_event: Any
    _rest = b""  # decrypted, and not asked for yet

    def _past_tls(self, *_: Any, **__: Any) -> NoReturn:
        # What would read or write past TLS, in clear, or hand out the descriptor for it.
        raise TypeError(
            "not possible with TLS: only recv, recv_into, send, sendall, sendfile and makefile are"
        )

    recvfrom = recvfrom_into = recvmsg = recvmsg_into = _past_tls
    sendto = sendmsg = detach = dup = _past_tls

    def _read(self, size: int) -> bytes:
        while not self._rest:
            if self.secure.is_over:
                return b""
            try:
                self._rest = self.secure.recv(READ_SIZE)
            except WantsWriting:
                self._wait(self._write_event)
            except BlockingIOError:
                if self.timeout == 0.0:
                    raise
                self._wait(self._read_event)
            except SSLEOFError:
                # No close_notify: that is the end, as for ssl.SSLSocket by default.
                return b""
            except SSLError as error:
                raise ConnectionResetError(errno.ECONNRESET, str(error)) from None
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def recv(self, size: int, flags: int = 0) -> bytes:
        _no_flags(flags)
        data = self._read(size)
        self.count(len(data), 0)
        return data

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def send(self, data: Any, flags: int = 0, timeout: Any = None) -> int:
        _no_flags(flags)
        while True:
            try:
                size = self.secure.send(memoryview(data).cast("B"))
            except BlockingIOError:
                if self.timeout == 0.0:
                    raise
                self._wait(self._write_event)
            except SSLError as error:
                raise ConnectionResetError(errno.ECONNRESET, str(error)) from None
            else:
                self.count(0, size)
                return size

    def shutdown(self, how: int) -> None:
        self.secure.shutdown(how)

    def getpeercert(self, binary_form: bool = False) -> Any:
        """The peer's verified certificate; None if it has shown none."""
        info = self.secure.info
        return None if info is None else (info.peer_cert_der if binary_form else info.peer_cert)

    def version(self) -> str | None:
        return self.secure.info.version if self.secure.info is not None else None

    def selected_alpn_protocol(self) -> str | None:
        return self.secure.info.alpn if self.secure.info is not None else None


def _no_flags(flags: int) -> None:
    if flags:
        raise ValueError("flags are not possible with TLS")


def cooperative(socket: _socket.socket) -> CountingSocket:
    """`socket` in gevent's hands. Its `count` is still to be set."""
    if isinstance(socket, TlsSocket):
        over_tls = TlsCountingSocket(
            socket.family, socket.type, socket.proto, fileno=os.dup(socket.fileno())
        )
        over_tls.secure = socket
        return over_tls
    return CountingSocket(socket.family, socket.type, socket.proto, fileno=socket.detach())


def raw(socket: gevent.socket.socket) -> _socket.socket:
    plain = _socket.socket(socket.family, socket.type, socket.proto, fileno=socket.detach())
    plain.setblocking(False)
    return plain
