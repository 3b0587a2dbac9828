"""Listen addresses: `SCHEME://HOST:PORT` and `SCHEME:///path` taken apart, and put together again.

An `Address` is a value: it knows no sockets and no protocols. The scheme names a protocol (or is
itself a transport); which protocols exist is not decided here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Literal

from gworker.errors import ConfigError

Transport = Literal["tcp", "udp", "unix"]

TRANSPORTS: dict[str, Transport] = {"tcp": "tcp", "udp": "udp", "unix": "unix"}

# The schemes that imply TLS, and the protocol under it.
TLS_SCHEMES = {"wss": "ws", "https": "http", "tls": "tcp", "ssl": "tcp"}

MAX_UNIX_PATH = 107  # bytes of `sun_path` without the closing zero (unix(7))


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Worker listens: at `host` and `port`, or for unix at `path`: absolute, or `@NAME`."""

    scheme: str
    transport: Transport
    host: str = ""
    port: int = 0
    path: str = ""
    tls: bool = False

    @property
    def is_abstract(self) -> bool:
        """True for the name of a unix socket that is no file (unix(7)): `unix://@NAME`."""
        return self.path.startswith("@")

    @property
    def url(self) -> str:
        """The address as its user writes it."""
        if self.transport == "unix":
            return f"{self.scheme}://{self.path}"
        return f"{self.scheme}://{authority(self.host, self.port)}"

    def with_port(self, port: int) -> Address:
        """The same address with the port that the kernel chose."""
        return replace(self, port=port)


def authority(host: str, port: int) -> str:
    """`HOST:PORT`, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse(url: str, transport: str | None = None) -> Address:
    """Parse `url`. `transport` overrides what the scheme implies. Raises ConfigError naming the
    fault."""
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme:
        raise ConfigError(f"address {url!r}: expected SCHEME://HOST:PORT or unix:///path.sock")
    scheme = scheme.lower()
    tls = scheme in TLS_SCHEMES or transport == "ssl"
    implied = TRANSPORTS.get(scheme, "tcp")
    known = implied if transport in (None, "ssl") else TRANSPORTS.get(transport)
    if known is None:
        raise ConfigError(
            f"address {url!r}: unknown transport {transport!r}, expected one of "
            f"{', '.join(TRANSPORTS)}, ssl"
        )
    if scheme in TRANSPORTS and scheme not in ("tcp", known):
        raise ConfigError(
            f"address {url!r}: its scheme is the transport {scheme}, which contradicts "
            f"{transport!r}"
        )
    if known == "udp" and tls:
        raise ConfigError(f"address {url!r}: TLS needs a stream, and UDP is none")
    if known == "unix":
        return Address(scheme, known, path=unix_path(f"address {url!r}", rest), tls=tls)
    host, port = _host_port(url, rest)
    return Address(scheme, known, host, port, tls=tls)


def unix_path(where: str, path: str) -> str:
    """`path`, if a unix socket can be there: absolute, or `@NAME` (unix(7)). Raises ConfigError,
    which begins with `where`."""
    if not path.startswith(("/", "@")) or path == "@":
        raise ConfigError(
            f"{where}: expected an absolute path, as in unix:///run/app.sock, or unix://@NAME"
        )
    if "\0" in path or len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise ConfigError(
            f"{where}: a unix socket has at most {MAX_UNIX_PATH} bytes of path or name, none of "
            "them zero"
        )
    return path


def _host_port(url: str, rest: str) -> tuple[str, int]:
    rest = rest.rstrip("/")
    host, separator, port = rest.rpartition(":")
    place, slash, path = rest.partition("/")
    if slash and ":" in place:
        raise ConfigError(
            f"address {url!r}: what is listened at has no path ({slash + path!r}); a handler "
            "sees it"
        )
    if not separator or slash:
        raise ConfigError(f"address {url!r}: expected a port, as in SCHEME://127.0.0.1:8000")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(
            f"address {url!r}: an IPv6 address is written in brackets, as in tcp://[::1]:8000"
        )
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ConfigError(f"address {url!r}: port {port!r} is not a number from 0 to 65535")
    return host or "0.0.0.0", int(port)


def unmapped(ip: str) -> str:
    """`ip`, or the IPv4 address that it maps (RFC 4291, 2.5.5.2), as of an IPv4 client at `::`."""
    return ip[7:] if ip.startswith("::ffff:") and "." in ip else ip


# Hosts that mean several addresses.
WIDE = {
    "::": "[::] is every address of the machine, those of IPv4 too",
    "0.0.0.0": "0.0.0.0 is every IPv4 address of the machine",
    "localhost": "localhost is 127.0.0.1 and [::1]",
}


def overlap(one: Address, other: Address) -> str:
    """Why two addresses with different hosts cannot both be bound; "" if they can."""
    is_same = (one.transport, one.port) == (other.transport, other.port)
    if one.transport == "unix" or not is_same or not one.port:
        return ""
    for wide, narrow in ((one.host, other.host), (other.host, one.host)):
        is_ipv4 = narrow == "localhost" or narrow.replace(".", "").isdigit()
        if (
            wide == "::"
            or (wide == "0.0.0.0" and is_ipv4)
            or (wide == "localhost" and narrow in ("127.0.0.1", "::1"))
        ):
            return WIDE[wide]
    return ""
