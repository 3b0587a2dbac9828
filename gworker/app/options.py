"""The keyword arguments of a Worker besides where it listens, and the check of each.

`LIMITS` are numbers that files, the environment and the command line override. `OPTIONS` are for
the Worker alone: `worker.options` holds them as their check returned them, and each of its
protocols gets them (`Protocol.configure`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Final, TypeGuard

from gworker.config import options, parsers
from gworker.config.access_format import AccessFormat, access_format
from gworker.config.parsers import networks, octal, size, size_or_none
from gworker.errors import ConfigError

LIMITS: Final = tuple(options.DEFAULT_LIMITS)

# The limits that are sizes: a text such as 64K is one too.
SIZES: Final = {
    each.key: each for each in options.OPTIONS if each.limit and each.parse in (size, size_or_none)
}


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def whole(value: object) -> int:
    if not _is_int(value) or value < 1:
        raise ValueError("a whole number from 1")
    return value


def boolean(value: object) -> bool:
    if value is not True and value is not False:
        raise ValueError("True or False")
    return bool(value)


def _networks(value: object) -> str:
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        value = ",".join(value)
    return networks(value if isinstance(value, str) else "?")


def _mode(value: object) -> int:
    if isinstance(value, str):
        return octal(value)
    if not _is_int(value) or not 0 <= value <= 0o777:
        raise ValueError('an octal mode from 0 to 777, as in 0o660 or "660"')
    return value


def _name(value: object) -> str:
    if not (_is_int(value) or (isinstance(value, str) and value)):
        raise ValueError("a name or a numeric id")
    return str(value)


def some_bytes(value: object) -> int:
    if isinstance(value, str):
        return size_or_none(value)
    if not _is_int(value) or value < 0:
        raise ValueError("a size in bytes, as in 0, 65536 or '64K'")
    return value


def _directory(value: object) -> str:
    if isinstance(value, str | os.PathLike) and isinstance(found := os.fspath(value), str):
        return parsers.path(found)
    raise ValueError("the path of a directory")


def _access_format(value: object) -> AccessFormat | None:
    if value is None or isinstance(value, AccessFormat):
        return value
    return access_format(value if isinstance(value, str) else "")


def _root_path(value: object) -> str:
    return parsers.root_path(value if isinstance(value, str) else "?")


def _chunked(value: object) -> str:
    if value not in ("spool", "stream"):
        raise ValueError('"spool" or "stream"')
    return str(value)


def _accept(value: object) -> str:
    if value not in ("lazy", "eager"):
        raise ValueError('"lazy" or "eager"')
    return str(value)


def _check_in(module: str, name: str, value: object) -> object:
    # The module is imported when the check runs: never in the arbiter.
    return getattr(import_module(module), name)(value)


_WEBSOCKET = "gworker.protocols.websocket.options"

# By name: a function that returns the value to use, or raises ValueError with what was expected.
OPTIONS: Final[Mapping[str, Callable[[object], object]]] = {
    "blocking_threads": whole,
    "compression": partial(_check_in, _WEBSOCKET, "compression"),
    "lockstep": boolean,
    "origins": partial(_check_in, _WEBSOCKET, "origins"),
    "subprotocols": partial(_check_in, _WEBSOCKET, "subprotocols"),
    "tls": partial(_check_in, "gworker.tls.options", "check"),
    "proxy_protocol": boolean,
    "forwarded_allow_ips": _networks,
    "unix_mode": _mode,
    "unix_user": _name,
    "unix_group": _name,
    "stream_above": some_bytes,
    "upload_dir": _directory,
    "root_path": _root_path,
    "access_log_format": _access_format,
    "wsgi_chunked": _chunked,
    "websocket_accept": _accept,
}


def limit(key: str, value: object, worker: str = "?") -> float:
    """`value`, if it can be a limit. worker: its name in messages. Raises ConfigError."""
    if key in SIZES and isinstance(value, str):
        try:
            value = SIZES[key].value(value)
        except ValueError as error:
            raise ConfigError(f"Worker {worker!r}: {key}={error}") from None
    if not (_is_int(value) or isinstance(value, float)) or not 0 <= value < math.inf:
        what = "a size in bytes, as in 65536 or '64K'" if key in SIZES else "a number from 0"
        raise ConfigError(f"Worker {worker!r}: {key}={value!r} is not {what}")
    return value


def option(key: str, value: object, worker: str = "?") -> object:
    """`value` as it is used. worker: its name in messages. Raises ConfigError."""
    if key == "tls":  # it holds a password: no message shows it whole
        from gworker.tls import options as tls_options

        return None if value is None else tls_options.check(value, f"Worker {worker!r}")
    try:
        return OPTIONS[key](value)
    except ValueError as error:
        raise ConfigError(
            f"Worker {worker!r}: {key}={value!r} is not valid, expected {error}"
        ) from None
