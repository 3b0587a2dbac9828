"""What a Worker may say besides where it listens: its keyword arguments, and what each of them may be.

`LIMITS` are numbers that files, the environment and the command line override. `OPTIONS` are what only the Worker
itself can say: they are found in `worker.options` as their check returned them, and are handed to each of its
protocols (`Protocol.configure`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gworker import tls_options
from gworker.errors import ConfigError
from gworker.protocols import websocket_options

LIMITS: Final = (
    "max_connections",
    "idle_timeout",
    "header_timeout",
    "handshake_timeout",
    "max_package_size",
    "max_send_buffer_size",
)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("True or False")  # noqa: TRY004
    return value


OPTIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "compression": websocket_options.compression,
    "lockstep": _flag,
    "origins": websocket_options.origins,
    "subprotocols": websocket_options.subprotocols,
    "tls": tls_options.check,
}
"""By name: what returns the value to use, or raises ValueError saying what was expected."""


def limit(key: str, value: Any) -> float | int:
    """`value`, if it can be a limit. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ConfigError(f"Worker: {key}={value!r} is not a number from 0")
    return value


def files(options: Mapping[str, Any]) -> tuple[str, ...]:
    """What is read before a process gives up its privileges."""
    return options["tls"].files() if options.get("tls") is not None else ()


def option(key: str, value: Any, who: str = "?") -> Any:
    """`value` as it is used. who: how messages name the Worker. Raises ConfigError."""
    if key == "tls":  # it holds a password: no message shows it whole
        return None if value is None else tls_options.check(value, f"Worker {who!r}")
    try:
        return OPTIONS[key](value)
    except ValueError as error:
        raise ConfigError(f"Worker: {key}={value!r} is not valid, expected {error}") from None
