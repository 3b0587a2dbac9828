"""TLS for dialled connections: the handshake in the dialling greenlet."""

from __future__ import annotations

import _socket
import os
from collections.abc import Mapping
from ssl import SSLContext, SSLWantReadError, SSLWantWriteError

from gevent.socket import wait_read, wait_write

from gworker.client.dialer import Wrap
from gworker.client.happy_eyeballs import DialError
from gworker.client.url import Target, ascii_name
from gworker.errors import ConfigError
from gworker.system.socket_options import closed_on_error
from gworker.tls.contexts import client_context
from gworker.tls.handshake import why
from gworker.tls.options import TlsOptions, check_client
from gworker.tls.socket import TlsSocket

# Contexts that are kept: loading the system's authorities stops the event loop for 0.1 s.
KEPT = 64

_contexts: dict[tuple[TlsOptions, tuple[tuple[int, ...], ...]], SSLContext] = {}


def wrapper(target: Target, options: Mapping[str, object]) -> Wrap:
    """A function that puts TLS on a socket that is connected to `target`. Raises ConfigError for
    bad `options`."""
    where = f"connect to {target}"
    context = _context(check_client(options, where), where)
    name = options.get("server_hostname") or target.host
    if not isinstance(name, str) or (not name and context.check_hostname):
        raise ConfigError(
            f"{where}: tls needs server_hostname, the name that the server's certificate is for"
        )
    name = ascii_name(name, where)

    def wrap(plain: _socket.socket) -> TlsSocket:
        try:
            socket = TlsSocket(plain, context, server_side=False, server_name=name or None)
            with closed_on_error(socket):
                _shake_hands(socket)
        except (OSError, ValueError) as error:
            raise DialError(f"TLS handshake with {target}: {why(error)}") from error
        return socket

    return wrap


def _context(options: TlsOptions, where: str) -> SSLContext:
    # A context made from these options and files, perhaps before. Raises ConfigError.
    key = (options, tuple(_version(path) for path in options.files()))
    context = _contexts.pop(key, None) or client_context(options, where)
    _contexts[key] = context  # at the end, as it was used last
    if len(_contexts) > KEPT:
        del _contexts[next(iter(_contexts))]
    return context


def _version(path: str) -> tuple[int, ...]:
    # It differs when the file was replaced or changed.
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _shake_hands(socket: TlsSocket) -> None:
    while True:
        try:
            socket.handshake()
        except SSLWantReadError:
            wait_read(socket.fileno())
        except SSLWantWriteError:
            wait_write(socket.fileno())
        else:
            return
