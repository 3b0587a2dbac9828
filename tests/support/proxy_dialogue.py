"""What a proxy answers, shown to the machine that asked it as a socket would."""

from __future__ import annotations

from gworker.protocols.proxies.http_connect import HttpConnect
from gworker.protocols.proxies.socks5 import Socks5

Machine = Socks5 | HttpConnect

BEHIND = b"the destination says hello"


def feed(machine: Machine, data: bytes, pace: int) -> bytes:
    """Show it `data` as a socket would that is only peeked at; return what it did not take."""
    while data and not machine.is_done:
        shown = data[:pace]
        used = machine.take(shown)
        assert used == len(shown) or machine.is_done
        data = data[used:]
    return data
