"""Which peers are proxies of ours, whose word on who the client is counts: `--forwarded-allow-ips`.

A list of IP addresses and networks, `unix` for unix sockets, `*` for everybody, separated by commas
or spaces.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

UNIX, ALL = "unix", "*"

LOCAL = "127.0.0.1,::1,unix"
"""Who may say so with the PROXY protocol if nobody is named."""

MOST_REMEMBERED = 4096


def parse(text: str) -> str:
    """`text` in its normal form. Raises ValueError saying what was expected."""
    parts = []
    for part in text.replace(",", " ").split():
        try:
            parts.append(part if part in (UNIX, ALL) else str(ip_network(part)))
        except ValueError:
            raise ValueError(
                "IP addresses or networks (10.0.0.0/8), unix or *, separated by commas"
            ) from None
    return ",".join(part.removesuffix("/32" if "." in part else "/128") for part in parts)


class Trust:
    """Who is trusted. True if anybody is."""

    def __init__(self, text: str) -> None:
        self._text = text
        parts = parse(text).split(",") if text else []
        self._all = ALL in parts
        self._unix = self._all or UNIX in parts
        self._networks = [ip_network(part) for part in parts if part not in (UNIX, ALL)]
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> tuple[Any, ...]:
        return Trust, (self._text,)

    def has_peer(self, address: object) -> bool:
        """True if the one who has connected from `address` is trusted."""
        return self.has(str(address[0])) if isinstance(address, tuple) else self._unix

    def has(self, ip: str) -> bool:
        """True if `ip` is trusted. What is no IP address is not."""
        known = self._known.get(ip)
        if known is None:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            known = self._known[ip] = self._look_up(ip)
        return known

    def _look_up(self, ip: str) -> bool:
        try:
            address = ip_address(ip.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return self._all or any((mapped or address) in network for network in self._networks)
