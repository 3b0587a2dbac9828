"""The protocols by their scheme names.

`get` answers with a class; built-in ones are imported when first asked for, so that a tcp server
does not load the HTTP parser. Other names come from `register` or from the entry-point group
"gworker.protocols" of an installed distribution.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from gworker.config.parsers import nearest
from gworker.errors import ProtocolError
from gworker.protocols.base import (
    EOF,
    MORE,
    NEED_DATA,
    PAUSED,
    Control,
    Handshake,
    Opened,
    Protocol,
    Switch,
)
from gworker.protocols.lockstep import Lockstep
from gworker.protocols.package import PackageProtocol

__all__ = [
    "EOF",
    "MORE",
    "NEED_DATA",
    "PAUSED",
    "Control",
    "Handshake",
    "Lockstep",
    "Opened",
    "PackageProtocol",
    "Protocol",
    "ProtocolError",
    "Switch",
    "complete",
    "get",
    "register",
]

ENTRY_POINTS = "gworker.protocols"

_BUILT_IN = {
    "tcp": ("gworker.protocols.tcp", "TcpProtocol"),
    "udp": ("gworker.protocols.tcp", "UdpProtocol"),
    "text": ("gworker.protocols.text", "TextProtocol"),
    "frame": ("gworker.protocols.frame", "FrameProtocol"),
    "http": ("gworker.protocols.http.protocol", "HttpProtocol"),
    "websocket": ("gworker.protocols.websocket.server", "WebSocketProtocol"),
    "ws": ("gworker.protocols.websocket.server", "WebSocketProtocol"),
}
# Schemes with a meaning of their own in a listen address.
_TRANSPORTS = frozenset({"tls", "ssl", "unix", "https", "wss"})

# RFC 3986 section 3.1, in its canonical lower case.
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")

_registered: dict[str, type[Protocol]] = {}


def register(name: str, cls: type[Protocol]) -> None:
    """Make `cls` known as the scheme `name`; registering a name again replaces its class.

    Raises ValueError for a name that is no URL scheme or is taken by gworker, TypeError if `cls` is
    not a subclass of Protocol.
    """
    if not isinstance(name, str) or not _SCHEME.fullmatch(name):
        raise ValueError(f"protocol name {name!r} is not a URL scheme ({_SCHEME.pattern})")
    if name in _BUILT_IN or name in _TRANSPORTS:
        raise ValueError(f"protocol name {name!r} is built in and cannot be replaced")
    _registered[name] = _checked(name, cls)


def get(name: str) -> type[Protocol]:
    """Return the class of protocol `name`. Raises LookupError, which says what may have been
    meant."""
    if name in _registered:
        return _registered[name]
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name]
        cls = getattr(import_module(module), attribute)
    else:
        cls = _from_entry_point(name)
    _registered[name] = _checked(name, cls)
    return _registered[name]


def _from_entry_point(name: str) -> Any:
    from importlib.metadata import entry_points  # slow to import, and hardly ever needed

    points = entry_points(group=ENTRY_POINTS)
    for point in points.select(name=name):
        return point.load()
    known = {*_BUILT_IN, *_registered, *points.names}
    raise LookupError(f"unknown protocol {name!r}{nearest(name, known)}")


def _checked(name: str, cls: Any) -> type[Protocol]:
    if not isinstance(cls, type) or not issubclass(cls, Protocol):
        raise TypeError(
            f"protocol {name!r} must be a subclass of gworker.protocols.Protocol, not {cls!r}"
        )
    return complete(cls)


def complete(cls: type[Protocol]) -> type[Protocol]:
    """`cls`, if it has the methods without which nothing can be received. Raises TypeError naming
    those it lacks."""
    lacking = [f"{name}()" for name in sorted(cls.__abstractmethods__)]
    if lacking:
        raise TypeError(f"protocol class {cls.__name__} has no {' and no '.join(lacking)}")
    return cls
