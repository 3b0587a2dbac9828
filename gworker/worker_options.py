"""What a Worker may say besides where it listens: its keyword arguments, and what each of them may be.

`LIMITS` are numbers that files, the environment and the command line override. `OPTIONS` are what only the Worker
itself can say: they are found in `worker.options` as their check returned them, and are handed to each of its
protocols (`Protocol.configure`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gworker import values
from gworker.errors import ConfigError

LIMITS: Final = (
    "max_connections",
    "idle_timeout",
    "header_timeout",
    "handshake_timeout",
    "max_package_size",
    "max_send_buffer_size",
)


def whole(value: Any) -> int:
    """A whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("a whole number from 1")
    return value


def some_bytes(value: Any) -> int:
    """A number of bytes, or a text such as 64K."""
    if isinstance(value, str):
        return values.size_or_none(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a size in bytes, as in 0, 65536 or '64K'")
    return value


OPTIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "blocking_threads": whole,
    "stream_above": some_bytes,
}
"""By name: what returns the value to use, or raises ValueError saying what was expected."""


def limit(key: str, value: Any) -> float | int:
    """`value`, if it can be a limit. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ConfigError(f"Worker: {key}={value!r} is not a number from 0")
    return value


def option(key: str, value: Any) -> Any:
    """`value` as it is used. Raises ConfigError."""
    try:
        return OPTIONS[key](value)
    except ValueError as error:
        raise ConfigError(f"Worker: {key}={value!r} is not valid, expected {error}") from None
