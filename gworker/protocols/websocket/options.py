"""What a Worker may say about its WebSockets: `compression`, `subprotocols`, `origins`.

Each check returns the value as `WebSocketProtocol` uses it, or raises ValueError saying what was
expected.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from gworker.http.upgrade import check_token


class Compression(NamedTuple):
    """How messages are compressed where the peer offers permessage-deflate (RFC 7692).

    context_takeover: a message may refer to those before it, which makes small ones smaller and
    costs memory for each connection. level: zlib's, 1 (fast) to 9. window_bits: 8 to 15; the window
    has 2 to the power of it bytes.
    threshold: bytes below which a message is sent as it is.
    """

    context_takeover: bool = False
    level: int = 1
    window_bits: int = 15
    threshold: int = 1


DEFAULT_COMPRESSION = Compression()

_VALUES: dict[str, tuple[type, Container[object]]] = {
    "context_takeover": (bool, (False, True)),
    "level": (int, range(1, 10)),
    "window_bits": (int, range(8, 16)),
    "threshold": (int, range(1, sys.maxsize)),
}
_EXPECTED = (
    'True, False, "context-takeover" or a dict of context_takeover (True or False), '
    "level (1 to 9), window_bits (8 to 15), threshold (bytes, from 1)"
)


def compression(value: object) -> Compression | None:
    # None: no compression.
    if value is None or value is False:
        return None
    if value is True:
        return DEFAULT_COMPRESSION
    if value == "context-takeover":
        return Compression(context_takeover=True)
    if not isinstance(value, Mapping):
        raise ValueError(_EXPECTED)  # noqa: TRY004  # what a check of a Worker's option raises
    for key, given in value.items():
        kind, values = _VALUES.get(key, (int, ()))
        if type(given) is not kind or given not in values:
            raise ValueError(_EXPECTED)
    return Compression(**value)


def subprotocols(value: object) -> tuple[str, ...]:
    # Names in order of preference.
    try:
        return tuple(check_token(name) for name in _members(value))
    except (TypeError, ValueError) as error:
        raise ValueError(f"a list of names ({error})") from None


def _members(value: Any) -> list[object]:
    if isinstance(value, str | bytes | Mapping):
        raise TypeError("it is no list")
    return list(value)


_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://(\*\.)?([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class Origins(NamedTuple):
    """Which pages may open a WebSocket; with "*" in `exact` all may. wildcards: (scheme with ://,
    ending of the host with its port)."""

    exact: frozenset[str]
    wildcards: tuple[tuple[str, str], ...]

    def allow(self, origin: str) -> bool:
        origin = origin.lower()
        return not self.exact.isdisjoint(("*", origin)) or any(
            origin.startswith(scheme)
            and origin.endswith(host)
            and len(origin) > len(scheme) + len(host)
            for scheme, host in self.wildcards
        )


def origins(value: object) -> Origins | None:
    # None: every page may.
    if value is None:
        return None
    exact, wildcards = set(), []
    try:
        entries = _members(value)
    except TypeError:
        raise ValueError(
            'a list of origins, such as ["https://example.com", "https://*.example.com"]'
        ) from None
    for entry in entries:
        if entry in ("*", "null"):
            exact.add(entry)
            continue
        match = _ORIGIN.fullmatch(entry.lower()) if isinstance(entry, str) else None
        if match is None:
            raise ValueError(
                'SCHEME://HOST[:PORT], SCHEME://*.DOMAIN[:PORT], "null" or "*" instead of '
                f"{entry!r}"
            )
        scheme, wildcard, host, port = match.groups()
        place = host if port is None or port == _DEFAULT_PORTS.get(scheme) else f"{host}:{port}"
        if wildcard:
            wildcards.append((f"{scheme}://", f".{place}"))
        else:
            exact.add(f"{scheme}://{place}")
    return Origins(frozenset(exact), tuple(wildcards))
