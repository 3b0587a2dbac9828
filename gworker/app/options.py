"""What a Worker may say besides where it listens: its keyword arguments, and what each of them may
be.

`LIMITS` are numbers that files, the environment and the command line override. `OPTIONS` are what
only the Worker itself can say: they are found in `worker.options` as their check returned them, and
are handed to each of its protocols (`Protocol.configure`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from gworker.config import parsers
from gworker.config.options import DEFAULT_LIMITS
from gworker.config.parsers import networks, octal
from gworker.errors import ConfigError

LIMITS: Final = tuple(DEFAULT_LIMITS)


def whole(value: Any) -> int:
    """A whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("a whole number from 1")
    return value


def boolean(value: object) -> bool:
    """A boolean."""
    if value is not True and value is not False:
        raise ValueError("True or False")
    return bool(value)


def _networks(value: Any) -> str:
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        value = ",".join(value)
    return networks(value if isinstance(value, str) else "?")


def _mode(value: Any) -> int:
    if isinstance(value, str):
        return octal(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o777:
        raise ValueError('an octal mode from 0 to 777, as in 0o660 or "660"')
    return value


def _name(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError("a name or a numeric id")
    return str(value)


def some_bytes(value: Any) -> int:
    """A number of bytes, or a text such as 64K."""
    if isinstance(value, str):
        return parsers.size_or_none(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a size in bytes, as in 0, 65536 or '64K'")
    return value


def _directory(value: Any) -> str:
    found = os.fspath(value) if isinstance(value, str | os.PathLike) else b""
    if isinstance(found, bytes):
        raise ValueError("the path of a directory")  # noqa: TRY004 - the check of every argument raises this
    return parsers.path(found)


def _check_in(module: str, name: str) -> Callable[[Any], Any]:
    """The check of this name; its module is imported when it is needed, which is never in the
    arbiter."""

    def check(value: Any) -> Any:
        return getattr(import_module(module), name)(value)

    return check


OPTIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "blocking_threads": whole,
    "compression": _check_in("gworker.protocols.websocket.options", "compression"),
    "lockstep": boolean,
    "origins": _check_in("gworker.protocols.websocket.options", "origins"),
    "subprotocols": _check_in("gworker.protocols.websocket.options", "subprotocols"),
    "tls": _check_in("gworker.tls.options", "check"),
    "proxy_protocol": boolean,
    "forwarded_allow_ips": _networks,
    "unix_mode": _mode,
    "unix_user": _name,
    "unix_group": _name,
    "stream_above": some_bytes,
    "upload_dir": _directory,
}
"""By name: what returns the value to use, or raises ValueError saying what was expected."""


SIZES: Final = ("max_package_size", "max_send_buffer_size", "max_json_size", "kernel_send_buffer")
"""The limits that are sizes: a text such as 64K is one too."""


def limit(key: str, value: Any, who: str = "?") -> float | int:
    """`value`, if it can be a limit. who: how messages name the Worker. Raises ConfigError."""
    if key in SIZES and isinstance(value, str):
        try:
            return (
                parsers.size_or_none(value) if key == "kernel_send_buffer" else parsers.size(value)
            )
        except ValueError as error:
            raise ConfigError(
                f"Worker {who!r}: {key}={value!r} is not valid, expected {error}"
            ) from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        what = "a size in bytes, as in 65536 or '64K'" if key in SIZES else "a number from 0"
        raise ConfigError(f"Worker {who!r}: {key}={value!r} is not {what}")
    return value


def files(options: Mapping[str, Any]) -> tuple[str, ...]:
    """What is read before a process gives up its privileges."""
    return options["tls"].files() if options.get("tls") is not None else ()


def option(key: str, value: Any, who: str = "?") -> Any:
    """`value` as it is used. who: how messages name the Worker. Raises ConfigError."""
    if key == "tls":  # it holds a password: no message shows it whole
        from gworker.tls import options as tls_options

        return None if value is None else tls_options.check(value, f"Worker {who!r}")
    try:
        return OPTIONS[key](value)
    except ValueError as error:
        raise ConfigError(
            f"Worker {who!r}: {key}={value!r} is not valid, expected {error}"
        ) from None
