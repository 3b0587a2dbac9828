"""TLS for what this process dials: the handshake in the dialling greenlet."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from ssl import SSLContext, SSLWantReadError, SSLWantWriteError
from typing import TYPE_CHECKING, Any

from gworker.certificates import client_context
from gworker.dialling import Wrap
from gworker.errors import ConfigError
from gworker.handshake import why
from gworker.sockets import READ, WRITE, DialError, wait
from gworker.target import Target
from gworker.tls import TlsSocket

if TYPE_CHECKING:
    import _socket


def wrapper(target: Target, options: Mapping[str, Any]) -> Wrap:
    """What puts TLS on a socket that is connected to `target`. Raises ConfigError for what `options` cannot say."""
    who = f"connect to {target}"
    context = client_context(options, who) if options else _default_context()
    name = options.get("server_hostname") or target.host
    if not isinstance(name, str) or (not name and context.check_hostname):
        raise ConfigError(f"{who}: tls needs server_hostname, the name that the server's certificate is for")

    def wrap(plain: _socket.socket) -> TlsSocket:
        try:
            socket = TlsSocket(plain, context, server_side=False, server_name=name or None)
        except ValueError as error:
            raise DialError(f"TLS handshake with {target}: {error}") from error
        try:
            _shake_hands(socket)
        except (OSError, ValueError) as error:
            socket.close()
            raise DialError(f"TLS handshake with {target}: {why(error)}") from error
        except BaseException:
            socket.close()
            raise
        return socket

    return wrap


@functools.cache
def _default_context() -> SSLContext:
    """Reading the system's authorities takes too long to do it for every connection."""
    return client_context({})


def _shake_hands(socket: TlsSocket) -> None:
    while True:
        try:
            socket.handshake()
        except SSLWantReadError:
            wait(socket.fileno(), READ)
        except SSLWantWriteError:
            wait(socket.fileno(), WRITE)
        else:
            return
