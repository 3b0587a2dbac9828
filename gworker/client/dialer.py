"""Dialling: a connected socket, perhaps through a proxy, perhaps with TLS.

Straight-line code for a greenlet of its own, which a deadline or `close()` may kill at any of its
waits; it leaves no socket open then.
"""

from __future__ import annotations

import _socket
from collections.abc import Callable
from dataclasses import dataclass

from gevent.socket import wait_read, wait_write

from gworker.client.happy_eyeballs import (
    DialError,
    OnStage,
    dial_host,
    dial_unix,
    reason,
    resolve,
)
from gworker.client.url import Proxy, Target
from gworker.errors import ProtocolError
from gworker.protocols.proxies.http_connect import HttpConnect
from gworker.protocols.proxies.socks5 import AddressError, Socks5
from gworker.system.address import authority
from gworker.system.peer_address import SocketAddress
from gworker.system.socket_options import closed_on_error

PEEK_SIZE = 4096

Machine = Socks5 | HttpConnect
Wrap = Callable[[_socket.socket], _socket.socket]  # puts TLS on it (client/tls.py)


@dataclass(frozen=True, slots=True)
class Route:
    """What is dialled, and how. source: (host, port) to connect from."""

    target: Target
    proxy: Proxy | None
    source: tuple[str, int] | None
    wrap: Wrap | None


def dial(route: Route, on_stage: OnStage) -> tuple[_socket.socket, SocketAddress]:
    """Return a connected, non-blocking socket and the address of its peer. Raises DialError."""
    plain = _plain(route, on_stage)
    with closed_on_error(plain):
        try:
            remote: SocketAddress = plain.getpeername()
        except OSError as error:  # ENOTCONN: it was reset since
            raise DialError(
                f"the peer has closed the connection at once: {reason(error)}"
            ) from error
        if route.wrap is None:
            return plain, remote
        on_stage(f"the TLS handshake with {route.target}")
        return route.wrap(plain), remote


def _plain(route: Route, on_stage: OnStage) -> _socket.socket:
    target = route.target
    if target.transport == "unix":
        return dial_unix(target.path, on_stage)
    if route.proxy is not None:
        return _through(route.proxy, route, on_stage)
    kind = _socket.SOCK_DGRAM if target.transport == "udp" else _socket.SOCK_STREAM
    return dial_host(target.host, target.port, kind, route.source, on_stage)


# ---- proxies


def machine_for(proxy: Proxy, host: str, port: int) -> Machine:
    """The protocol that asks `proxy` for a connection to `host`. Raises ValueError if it cannot."""
    return (HttpConnect if proxy.scheme == "http" else Socks5)(
        host, port, proxy.user, proxy.password
    )


def _through(proxy: Proxy, route: Route, on_stage: OnStage) -> _socket.socket:
    host, port = route.target.host, route.target.port
    if proxy.scheme != "socks5":
        return _tunnel(proxy, route, host, on_stage)
    # As with curl, the proxy resolves names for socks5h only; here each address is tried.
    failures = []
    for _, address in resolve(host, port, _socket.SOCK_STREAM, on_stage):
        try:
            return _tunnel(proxy, route, str(address[0]), on_stage)
        except DialError as error:
            failures.append(str(error))
            if not isinstance(error.__cause__, AddressError):
                break
    raise DialError("; ".join(failures))


def _tunnel(proxy: Proxy, route: Route, host: str, on_stage: OnStage) -> _socket.socket:
    # A connection to `host` through `proxy`. Raises DialError; its cause is the proxy's answer.
    port = route.target.port
    machine = machine_for(proxy, host, port)
    try:
        plain = dial_host(proxy.host, proxy.port, _socket.SOCK_STREAM, route.source, on_stage)
    except DialError as error:
        raise DialError(f"proxy {proxy}: {error}") from error
    on_stage(f"the proxy {proxy}")
    with closed_on_error(plain):
        try:
            _talk(plain, machine)
        except (OSError, ProtocolError) as error:
            raise DialError(
                f"{authority(host, port)} through proxy {proxy}: {reason(error)}"
            ) from error
    return plain


def _talk(plain: _socket.socket, machine: Machine) -> None:
    # Run `machine` to its end. Bytes of the destination behind it stay in the socket.
    while not machine.is_done:
        data = machine.data_to_send()
        while data:
            try:
                data = data[plain.send(data) :]
            except BlockingIOError:
                wait_write(plain.fileno())
        try:
            seen = plain.recv(PEEK_SIZE, _socket.MSG_PEEK)
        except BlockingIOError:
            wait_read(plain.fileno())
            continue
        if not seen:
            raise ProtocolError("the proxy closed the connection")
        plain.recv(machine.take(seen))
