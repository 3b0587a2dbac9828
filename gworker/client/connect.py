"""`gworker.connect`: dialling from a worker process."""

from __future__ import annotations

import os
from _thread import get_native_id
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gworker.app import worker
from gworker.app.callbacks import CONNECTION_CALLBACKS, check
from gworker.app.validation import protocol_class
from gworker.client import url as targets
from gworker.client.connection import ClientConnection
from gworker.client.connector import Plan
from gworker.client.dialer import Wrap, machine_for
from gworker.client.udp import DatagramClient, DatagramTransport
from gworker.client.url import WEBSOCKETS, Proxy, Target
from gworker.connection.context import ServerContext
from gworker.connection.transport import Transport
from gworker.errors import ConfigError
from gworker.http.headers import HeaderSource
from gworker.protocols.base import Protocol
from gworker.protocols.lockstep import lockstep as stepping
from gworker.system.address import authority

# A client answers no handshake, and does not move.
CALLBACKS = tuple(
    name for name in CONNECTION_CALLBACKS if name not in ("on_websocket_connect", "on_takeover")
)

Factory = Callable[[int], Protocol]


def connect(
    url: str,
    *,
    timeout: float = 10.0,
    protocol: str | type[Protocol] | None = None,
    transport: str | None = None,
    headers: HeaderSource | None = None,
    subprotocols: Iterable[str] | None = None,
    origin: str | None = None,
    compression: object = None,
    tls: Mapping[str, object] | None = None,
    proxy: str | None = None,
    source_address: tuple[str, int] | None = None,
    lockstep: bool = False,
    max_package_size: int | None = None,
    max_send_buffer_size: int | None = None,
    **callbacks: Callable[..., object] | None,
) -> ClientConnection:
    """Dial `url` and return at once; the connection calls on_connect when it is open.

    url: `SCHEME://HOST:PORT` for tcp, text, frame, udp, tls and registered protocols,
    `unix:///path`, `ws://HOST[:PORT]/path?query`, and the same with `wss`.
    timeout: seconds for everything until it is open; then on_error(CONNECT_FAIL) and on_close are
    called.
    protocol, transport, lockstep: as of a Worker. headers (a mapping or pairs), subprotocols,
    origin: of a WebSocket's handshake. compression: as of a Worker.
    tls: a dict with ca_certs (default: the system's), verify (True), server_hostname (the host of
    `url`), alpn, and of a certificate of ours certfile, keyfile, password.
    proxy: `socks5://` (names are resolved here), `socks5h://` (there) or `http://`, each
    `[USER:PASSWORD@]HOST[:PORT]`.
    source_address: (host, port) to connect from; port 0: any.
    max_package_size, max_send_buffer_size: bytes, as of a Worker.
    Callbacks: on_connect, on_message, on_close, on_error, on_buffer_full, on_buffer_drain. They may
    also be assigned to the connection: none is called before the caller blocks.

    Raises RuntimeError outside a worker process, ConfigError for a bad address or option, TypeError
    for an unknown argument.
    """
    service = _service()
    target = targets.parse(url, transport)
    _check(target, timeout, source_address, callbacks)
    handshake = {
        "headers": headers, "subprotocols": subprotocols, "origin": origin,
        "compression": compression,
    }  # fmt: skip
    given = {key: value for key, value in handshake.items() if value is not None}
    factory = _factory(target, url, protocol, given)
    if lockstep:
        if not isinstance(factory, type):
            raise ConfigError(f"connect to {target}: lockstep is not for WebSocket")
        factory = stepping(factory)
    kind, socket = (
        (DatagramClient, DatagramTransport)
        if target.transport == "udp"
        else (ClientConnection, Transport)
    )
    plan = Plan(
        target, _proxy(proxy, target), source_address, _tls(target, tls),
        factory, timeout, max_package_size, max_send_buffer_size, socket,
    )  # fmt: skip
    try:
        connection = kind(service, plan)
    except ValueError as error:  # of the handshake: a header field that cannot be sent, say
        raise ConfigError(f"connect to {target}: {error}") from None
    for name, function in callbacks.items():
        connection.set_callback(name, function)
    connection.connector.dial(connection)
    return connection


def _service() -> ServerContext:
    if not worker.running:
        raise RuntimeError(
            "gworker.connect() works in a worker process: call it in on_worker_start or later"
        )
    service: ServerContext = worker.running[-1][1].service
    if get_native_id() != os.getpid():  # gettid(2): the main thread's is the process's
        raise RuntimeError(
            "gworker.connect() works in the thread of the event loop, not in another one"
        )
    if service.dialling_over:
        raise RuntimeError("gworker.connect(): this process has ended its work")
    return service


def _check(
    target: Target, timeout: object, source: object, callbacks: Mapping[str, object]
) -> None:
    for name, function in callbacks.items():
        if name not in CALLBACKS:
            raise TypeError(
                f"connect() got an unexpected keyword argument {name!r}; callbacks: "
                f"{', '.join(CALLBACKS)}"
            )
        if function is not None:
            check(name, function, "connect()")
    if (
        isinstance(timeout, bool)
        or not isinstance(timeout, int | float)
        or not 0 < timeout < float("inf")
    ):
        raise ConfigError(
            f"connect to {target}: timeout={timeout!r} is not a number of seconds above 0"
        )
    if source is not None and not (
        isinstance(source, tuple) and [type(each) for each in source] == [str, int]
    ):
        raise ConfigError(
            f"connect to {target}: source_address={source!r} is not a pair of host and port"
        )


def _proxy(url: str | None, target: Target) -> Proxy | None:
    if url is None:
        return None
    proxy = targets.parse_proxy(url)
    if target.transport != "tcp":
        raise ConfigError(f"connect to {target}: a proxy carries tcp, not {target.transport}")
    try:
        machine_for(proxy, target.host, target.port)
    except ValueError as error:
        raise ConfigError(f"connect to {target} through proxy {proxy}: {error}") from None
    return proxy


def _tls(target: Target, options: Mapping[str, object] | None) -> Wrap | None:
    if not target.secure:
        if options is not None:
            raise ConfigError(f'connect to {target}: tls is for wss, tls or transport="ssl"')
        return None
    if target.transport == "udp":
        raise ConfigError(f"connect to {target}: there is no TLS over udp")
    from gworker.client.tls import wrapper

    return wrapper(target, options or {})


def _factory(
    target: Target, url: str, protocol: str | type[Protocol] | None, handshake: dict[str, Any]
) -> Factory:
    name = protocol or target.protocol
    if isinstance(name, str) and name in WEBSOCKETS:
        if target.transport == "udp":
            raise ConfigError(f"connect to {target}: a WebSocket needs tcp or unix")
        from gworker.protocols.websocket.client import WebSocketClient

        own_port = 443 if target.secure else 80
        host = authority(target.host or "localhost", target.port or own_port)
        host = host.removesuffix(f":{own_port}")
        return lambda limit: WebSocketClient(limit, host, target.resource, **handshake)
    if handshake:
        raise ConfigError(
            f"connect to {target}: {', '.join(handshake)} belong to a WebSocket's handshake"
        )
    if name in targets.SERVERS_ONLY:
        raise ConfigError(f"connect to {target}: {name} has no client here")
    return protocol_class(name, url)
