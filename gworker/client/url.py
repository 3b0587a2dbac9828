"""The addresses that a client dials, taken apart: `SCHEME://HOST:PORT`, `unix:///path`,
`ws://HOST/path?query`.

Values only: nothing is resolved and no protocol is looked up here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from gworker.errors import ConfigError
from gworker.system.address import Transport, authority, unix_path

# Schemes with a path, and their ports (RFC 6455, 3).
WEBSOCKETS: Final = {"ws": 80, "websocket": 80, "wss": 443}

SECURE: Final = frozenset({"wss", "tls", "ssl"})
SERVERS_ONLY: Final = frozenset({"http", "https"})

PROXIES: Final = {"socks5": 1080, "socks5h": 1080, "http": 8080}


@dataclass(frozen=True, slots=True)
class Target:
    """What is dialled. protocol: its name in the registry. resource: path and query of a
    WebSocket."""

    scheme: str
    protocol: str
    transport: Transport
    secure: bool = False
    host: str = ""
    port: int = 0
    path: str = ""
    resource: str = "/"

    def __str__(self) -> str:
        # The target as messages name it: without the query, which may be secret.
        return f"{self.scheme}://{self.path or authority(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class Proxy:
    scheme: str
    host: str
    port: int
    user: str | None
    password: str

    def __str__(self) -> str:
        # The proxy as messages name it: without the password.
        return f"{self.scheme}://{authority(self.host, self.port)}"


def parse(url: str, transport: str | None = None) -> Target:
    """Take `url` apart; `transport` ("tcp", "udp", "unix", "ssl") overrides what the scheme
    implies.

    Raises ConfigError, which names the fault.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or not scheme:
        raise ConfigError(f"connect to {url!r}: expected SCHEME://HOST:PORT or unix:///path.sock")
    if not url.isprintable():
        raise ConfigError(f"connect to {url!r}: there are characters in it that no address has")
    if scheme in SERVERS_ONLY:
        raise ConfigError(
            f"connect to {url!r}: {scheme} has no client here; use an HTTP library, it works in "
            "a handler"
        )
    if transport not in (None, "tcp", "udp", "unix", "ssl"):
        raise ConfigError(
            f"connect to {url!r}: unknown transport {transport!r}, expected tcp, udp, unix or ssl"
        )
    secure = scheme in SECURE or transport == "ssl"
    protocol = (
        "ws" if scheme in WEBSOCKETS else "tcp" if scheme in {"unix", "tls", "ssl"} else scheme
    )
    if scheme == "unix" or transport == "unix":
        return Target(scheme, protocol, "unix", secure, path=unix_path(f"connect to {url!r}", rest))
    carrier: Transport = (
        "udp" if transport == "udp" or (transport is None and scheme == "udp") else "tcp"
    )
    host, port, resource = _network(url, scheme)
    return Target(scheme, protocol, carrier, secure, host, port, resource=resource)


def parse_proxy(url: str) -> Proxy:
    """Take the address of a proxy apart. Raises ConfigError, which does not repeat the password."""
    parts = _split(url, "proxy")
    scheme = parts.scheme.lower()
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if scheme not in PROXIES:
        raise ConfigError(
            f"proxy {shown!r}: expected one of "
            f"{', '.join(f'{each}://HOST:PORT' for each in PROXIES)}"
        )
    port = _port(parts.netloc, f"proxy {shown!r}", PROXIES[scheme])
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(f"proxy {shown!r}: expected {scheme}://[USER:PASSWORD@]HOST:PORT")
    user = None if parts.username is None else unquote(parts.username)
    return Proxy(scheme, parts.hostname, port, user, unquote(parts.password or ""))


def _network(url: str, scheme: str) -> tuple[str, int, str]:
    where = f"connect to {url!r}"
    parts = _split(url, where)
    port = _port(parts.netloc, where, WEBSOCKETS.get(scheme))
    if "@" in parts.netloc:
        raise ConfigError(
            f"connect to {scheme}://{parts.netloc.rpartition('@')[2]}: a user has no meaning there"
        )
    if not parts.hostname:
        raise ConfigError(f"{where}: expected a host, as in {scheme}://127.0.0.1:8000")
    if parts.fragment or (scheme not in WEBSOCKETS and (parts.path.strip("/") or parts.query)):
        raise ConfigError(f"{where}: there is something behind the port")
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not resource.isascii() or not resource.isprintable() or " " in resource:
        raise ConfigError(f"{where}: the path is to be percent-encoded (RFC 3986, 2.1)")
    return ascii_name(parts.hostname, where), port, resource


def ascii_name(host: str, where: str) -> str:
    """The name of a host as in DNS, certificates and header fields (RFC 5890). Raises
    ConfigError."""
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ConfigError(f"{where}: {host!r} is no name of a host: {error}") from None


def _split(url: str, where: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:  # brackets that do not match
        raise ConfigError(f"{where}: {error}") from None


def _port(netloc: str, where: str, default: int | None) -> int:
    host = netloc.rpartition("@")[2]
    _, separator, port = host.rpartition(":")
    if not separator or host.endswith("]"):
        if default is None:
            raise ConfigError(f"{where}: expected a port, as in SCHEME://127.0.0.1:8000")
        return default
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
        raise ConfigError(f"{where}: port {port!r} is not a number from 1 to 65535")
    if ":" in host.rpartition(":")[0] and "[" not in host:
        raise ConfigError(
            f"{where}: an IPv6 address is written in brackets, as in tcp://[::1]:8000"
        )
    return int(port)
