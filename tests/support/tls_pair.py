"""Two ends of TLS in one process."""

from __future__ import annotations

import _socket
import socket
import ssl
from typing import Any

from gworker.tls.contexts import Contexts
from gworker.tls.options import check
from gworker.tls.socket import TlsSocket

opened: list[TlsSocket] = []
"""The ends of all pairs; a fixture closes them."""


def server(options: dict[str, Any], *alpn: str) -> ssl.SSLContext:
    """The context of a Worker with these options."""
    return Contexts(check(options), "Worker 'w'").get(alpn)


def over_tcp() -> tuple[_socket.socket, _socket.socket]:
    """A connected pair of TCP sockets: the accepted one, and the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = _socket.socket()
        theirs.connect(listener.getsockname())
        ours, _ = listener.accept()
    return _socket.socket(fileno=ours.detach()), theirs


class Pair:
    """A server's and a client's TlsSocket with their handshake behind them, unless it fails."""

    def __init__(
        self,
        at_server: ssl.SSLContext,
        at_client: ssl.SSLContext,
        host: str | None = "localhost",
        family: int = _socket.AF_UNIX,
        session: Any = None,
    ) -> None:
        ours, theirs = _socket.socketpair() if family == _socket.AF_UNIX else over_tcp()
        self.server = TlsSocket(ours, at_server, server_side=True)
        self.client = TlsSocket(theirs, at_client, server_side=False, server_name=host)
        if session is not None:
            self.client._tls.session = session
        opened.extend([self.server, self.client])
        left = [self.client, self.server]
        while left:
            for each in list(left):
                try:
                    each.handshake()
                    left.remove(each)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    continue
