"""How many connections each IP address has in this process, and which have as many as they may.

An IPv6 address counts as its network of 64 bits, all of which one customer has (RFC 6177); an IPv4
address that is written in IPv6 (RFC 4291, 2.5.5.2) is itself. Unix sockets have no address and no
limit.
"""

from __future__ import annotations

import _socket
from collections import Counter

from gworker.system.peer_address import SocketAddress

MAPPED = bytes(10) + b"\xff\xff"


def key_of(address: SocketAddress) -> bytes | str:
    """What is counted together with `address`; "" for what is not counted."""
    if not isinstance(address, tuple):
        return ""
    host = str(address[0])
    if ":" not in host:
        return host
    try:
        packed = _socket.inet_pton(_socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host
    return _socket.inet_ntop(_socket.AF_INET, packed[12:]) if packed[:12] == MAPPED else packed[:8]


class AddressLimit:
    """The counts. `limit`: connections per address; 0: none, and nothing is counted."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.counts = Counter[bytes | str]()
        self.refused = 0  # connections that were not taken

    def is_full(self, address: SocketAddress) -> bool:
        """True if there may be no further connection from `address`."""
        key = key_of(address)
        return bool(key) and self.counts[key] >= self.limit

    def add(self, address: SocketAddress) -> None:
        if self.limit and (key := key_of(address)):
            self.counts[key] += 1

    def remove(self, address: SocketAddress) -> None:
        if self.limit and (key := key_of(address)):
            self.counts[key] -= 1
            if not self.counts[key]:
                del self.counts[key]
