"""Which peers are trusted proxies, that may name the client: `--forwarded-allow-ips`.

A list of IP addresses and networks, `unix` for unix sockets, `*` for all, separated by commas or
spaces.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network

from gworker.config.parsers import ALL, UNIX, networks

LOCAL = "127.0.0.1,::1,unix"  # the proxies that are trusted with the PROXY protocol by default

MOST_REMEMBERED = 4096  # addresses


class Trust:
    """The peers that are trusted; false if there are none."""

    def __init__(self, text: str) -> None:
        self._text = text
        parts = networks(text).split(",") if text else []
        self._all = ALL in parts
        self._unix = self._all or UNIX in parts
        self._networks = [ip_network(part) for part in parts if part not in (UNIX, ALL)]
        self._look_up = lru_cache(MOST_REMEMBERED)(self._is_listed)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trust) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[type[Trust], tuple[str]]:
        return Trust, (self._text,)

    def has_peer(self, address: object) -> bool:
        """True if the peer that has connected from this socket address is trusted."""
        return self.has(str(address[0])) if isinstance(address, tuple) else self._unix

    def has(self, ip: str) -> bool:
        """True if `ip` is trusted; false also for a text that is no IP address."""
        return self._look_up(ip)

    def _is_listed(self, ip: str) -> bool:
        try:
            address = ip_address(ip.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return self._all or any((mapped or address) in network for network in self._networks)
