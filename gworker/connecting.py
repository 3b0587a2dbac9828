"""`gworker.connect`: dialling from a worker process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gworker import target as targets
from gworker import worker
from gworker.client_connection import ClientConnection, DatagramClient, Plan
from gworker.dialling import Route
from gworker.entrance import protocol_class
from gworker.errors import ConfigError
from gworker.protocols.base import Protocol
from gworker.service import Service
from gworker.target import Target
from gworker.worker import CONNECTION_CALLBACKS

CALLBACKS = tuple(name for name in CONNECTION_CALLBACKS if name not in ("on_websocket_connect", "on_takeover"))
"""A client answers no handshake, and does not move."""


def connect(
    url: str,
    *,
    timeout: float = 10.0,
    protocol: str | type[Protocol] | None = None,
    transport: str | None = None,
    proxy: str | None = None,
    source_address: tuple[str, int] | None = None,
    lockstep: bool = False,
    max_package_size: int | None = None,
    max_send_buffer_size: int | None = None,
    **callbacks: Callable[..., object] | None,
) -> ClientConnection:
    """Dial `url` and return at once; the connection calls on_connect when it is open.

    url: `SCHEME://HOST:PORT` for tcp, text, frame, udp and registered protocols, `unix:///path`.
    timeout: seconds for everything until it is open; then on_error(CONNECT_FAIL) and on_close are called. protocol,
    transport: as of a Worker. proxy: `socks5://` (names are resolved here), `socks5h://` (there) or `http://`, each
    `[USER:PASSWORD@]HOST[:PORT]`. source_address: (host, port) to connect from; port 0: any. Limits: in bytes, as
    of a Worker. Callbacks: on_connect, on_message, on_close, on_error, on_buffer_full, on_buffer_drain; they may also be
    assigned to the connection: none is called before the caller waits for something.

    Raises RuntimeError outside a worker process, ConfigError for an address or option that cannot be, TypeError for
    an unknown argument.
    """
    service = _service()
    target = targets.parse(url, transport)
    _check(target, timeout, proxy, callbacks)
    route = Route(target, targets.parse_proxy(proxy) if proxy else None, source_address)
    plan = Plan(route, _protocol(target, url, protocol, lockstep), timeout, max_package_size, max_send_buffer_size)
    kind = DatagramClient if target.transport == "udp" else ClientConnection
    connection = kind(service, plan)
    for name, function in callbacks.items():
        connection.set_callback(name, function)
    connection.dial()
    return connection


def _service() -> Service:
    if not worker.running:
        raise RuntimeError("gworker.connect() works in a worker process: call it in on_worker_start or later")
    service: Service = worker.running[-1][1].service  # type: ignore[attr-defined]
    if service.dialling_over:
        raise RuntimeError("gworker.connect(): this process has ended its work")
    return service


def _check(target: Target, timeout: float, proxy: str | None, callbacks: Mapping[str, Any]) -> None:
    for name, function in callbacks.items():
        if name not in CALLBACKS:
            raise TypeError(f"connect() got an unexpected keyword argument {name!r}; callbacks: {', '.join(CALLBACKS)}")
        if function is not None and not callable(function):
            raise TypeError(f"connect(): {name} must be callable, not {type(function).__name__}")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
        raise ConfigError(f"connect to {target}: timeout={timeout!r} is not a number of seconds above 0")
    if proxy and target.transport != "tcp":
        raise ConfigError(f"connect to {target}: a proxy carries tcp, not {target.transport}")


def _protocol(target: Target, url: str, given: str | type[Protocol] | None, in_step: bool) -> Callable[[int], Protocol]:
    made = protocol_class(given or target.protocol, url)
    return lockstep(made) if in_step else made
