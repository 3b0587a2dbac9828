"""The client of a request as trusted proxies name it: X-Forwarded-For, Forwarded (RFC 7239).

Each proxy adds, at the end, the address that has connected to it. So the list is read from its end:
the socket's peer is trusted, then what it says, as far as that is trusted too; the first address
that is not is the client's, and everything before it may be invented. X-Forwarded-For goes first:
of a header that a proxy does not set itself, it passes on what the client has sent.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from gworker.core.fields import TOKEN
from gworker.http.headers import Headers
from gworker.system.address import unmapped

# Proxies that are followed.
MOST_HOPS: Final = 64


# What getpeername(2) gives: a tuple of an IP address and more, or what a unix socket has.
PeerAddress: TypeAlias = tuple[Any, ...] | str | bytes | None


class Trust(Protocol):
    """The proxies that are trusted (`gworker.config.trusted_proxies`)."""

    def has(self, ip: str) -> bool: ...


class Origin(NamedTuple):
    """Where the requests of a connection come from, if that takes more to say than the address of
    its peer.

    trust: the addresses that are trusted; None: not even the peer. scheme: that of the connection.
    """

    peer: PeerAddress
    trust: Trust | None = None
    scheme: str = "http"


class Connected(Protocol):
    """What works out where its requests come from when it is asked: few handlers ask."""

    @property
    def origin(self) -> Origin | PeerAddress: ...


RequestOrigin: TypeAlias = Origin | PeerAddress | Connected


def resolved(origin: RequestOrigin) -> Origin | PeerAddress:
    return origin if origin is None or isinstance(origin, tuple | str | bytes) else origin.origin


class Client(NamedTuple):
    """The client's IP address ("" if it is not known), and how it has put its request."""

    ip: str
    scheme: str
    host: str


class _Hop(NamedTuple):
    # What one proxy states; "" for what it does not. ip: "" if it is unknown or malformed, None if
    # it is not stated.
    ip: str | None = ""
    scheme: str = ""
    host: str = ""


def client_of(
    headers: Headers, origin: RequestOrigin, target: tuple[str, str] | None = None
) -> Client:
    """The client of a request with these headers. origin: an `Origin`, the address of the
    peer, or what knows one of these.

    target: scheme and authority of one in absolute form, which count in place of Host (RFC 9112
    section 3.2.2). That a plain connection was "https" is believed only from trusted proxies
    (RFC 9110 section 7.4).
    """
    origin = resolved(origin)
    peer, trust, scheme = origin if isinstance(origin, Origin) else (origin, None, "http")
    host = headers.get("Host", "")
    if target is not None:
        asked, host = target
        scheme = scheme if asked == "https" and trust is None else asked
    client = Client(unmapped(str(peer[0])) if isinstance(peer, tuple) else "", scheme, host)
    if trust is not None:
        for hop in reversed(_hops(headers)[-MOST_HOPS:]):
            ip = client.ip if hop.ip is None else hop.ip
            client = Client(ip, hop.scheme or client.scheme, hop.host or client.host)
            if not hop.ip or not trust.has(hop.ip):
                break
    return client


def _hops(headers: Headers) -> list[_Hop]:
    addresses = _list(headers, "X-Forwarded-For")
    if not addresses and "Forwarded" in headers:
        return [hop for line in headers.get_all("Forwarded") for hop in _elements(line)]
    schemes, hosts = _list(headers, "X-Forwarded-Proto"), _list(headers, "X-Forwarded-Host")
    count = max(len(addresses), 1 if schemes or hosts else 0)
    return [
        _Hop(
            _address(addresses[at]) if addresses else None,
            _scheme(_at(schemes, at, count)),
            _host(_at(hosts, at, count)),
        )
        for at in range(count)
    ]


def _list(headers: Headers, name: str) -> list[str]:
    return [
        item for line in headers.get_all(name) for part in line.split(",") if (item := part.strip())
    ]


def _at(values: list[str], at: int, count: int) -> str:
    # The value of hop `at`: each proxy has added one, or the last one has set the only one.
    if len(values) == count:
        return values[at]
    return values[-1] if values and at == count - 1 else ""


# ---- RFC 7239, section 4

# One member of an element. What skips blanks gives none back: else a long run of them costs its
# length squared.
_PAIR = re.compile(
    rf"[ \t]*+(?:({TOKEN})="
    rf'(?:({TOKEN})|"((?:[\t !\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t !-~\x80-\xff])*)"))?'
    r"[ \t]*+([;,]|$)"
)

_ESCAPED = re.compile(r"\\(.)")


def _elements(line: str) -> list[_Hop]:
    # The elements of one line. One that is malformed stands, with all before it, for a proxy that
    # says nothing. The next proxy has written behind a comma, whatever stood before: a client that
    # leaves a quoted string open does not take that proxy's word away. It cannot make it its own,
    # either: then the line would end within the string.
    hops: list[_Hop] = []
    said: dict[str, str] = {}
    at = begin = 0
    while True:
        pair = _PAIR.match(line, at)
        if pair is None or (pair[1] and pair[1].lower() in said):
            hops, said = [_Hop()], {}
            at = begin = line.find(",", begin) + 1
            if not at:
                return hops
            continue
        if pair[1]:
            said[pair[1].lower()] = pair[2] or _ESCAPED.sub(r"\1", pair[3] or "")
        if pair[4] != ";" and (said or pair[4]):
            ip = _address(said["for"]) if "for" in said else None
            hops.append(_Hop(ip, _scheme(said.get("proto", "")), _host(said.get("host", ""))))
            said = {}
        at = pair.end()
        if pair[4] == ",":
            begin = at
        if not pair[4]:
            return hops


# ---- values

_PORT = re.compile(r":[0-9]{1,5}")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::[0-9]{1,5})?")


def _address(text: str) -> str:
    # The IP address in its normal form, without a port; "" for "unknown", hidden names and
    # everything else.
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        port = port if bracket else "?"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        port = f":{port}"
    else:
        host, port = text, ""
    if port and not _PORT.fullmatch(port):
        return ""
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _scheme(text: str) -> str:
    scheme = text.lower()
    return {"ws": "http", "wss": "https"}.get(scheme, scheme if scheme in ("http", "https") else "")


def _host(text: str) -> str:
    return text if _HOST.fullmatch(text) else ""
