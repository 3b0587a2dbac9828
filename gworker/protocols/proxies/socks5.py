"""socks5: asking a SOCKS proxy for a connection, the client's side (RFC 1928, RFC 1929).

The driver sends `data_to_send()`, gives what has arrived to `take`, which returns how many bytes of
it are the proxy's, and repeats both until `is_done`. All bytes that follow are the destination's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Generator

from gworker.errors import ProtocolError

VERSION, PASSWORD_VERSION = 5, 1
NO_AUTHENTICATION, PASSWORD, NONE_ACCEPTABLE = 0x00, 0x02, 0xFF
CONNECT = 1
IPV4, NAME, IPV6 = 1, 3, 4

# RFC 1928, 6.
REPLIES = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}

# Replies that concern this address only, not the host's other ones.
OF_THE_ADDRESS = frozenset({3, 4, 5, 8})


class AddressError(ProtocolError):
    """The proxy cannot connect to this address; another one of the same host may do."""


# Yields how many bytes it needs, and is sent exactly those.
Steps = Generator[int, bytes, None]


class Socks5:
    """One request for a connection to `host`, a name (which the proxy resolves) or an address, and
    `port`.

    user: None offers no authentication. Raises ValueError for what the protocol cannot carry.
    """

    def __init__(self, host: str, port: int, user: str | None = None, password: str = "") -> None:
        self.is_done = False
        self._destination = _address(host) + port.to_bytes(2)
        self._login = None if user is None else (_short("user", user), _short("password", password))
        methods = [NO_AUTHENTICATION] if self._login is None else [NO_AUTHENTICATION, PASSWORD]
        self._output = bytes([VERSION, len(methods), *methods])
        self._got = bytearray()
        self._steps: Steps = self._run()
        self._needed = next(self._steps)

    def data_to_send(self) -> bytes:
        output, self._output = self._output, b""
        return output

    def take(self, data: bytes) -> int:
        used = 0
        while not self.is_done and used < len(data):
            piece = data[used : used + self._needed - len(self._got)]
            used += len(piece)
            self._got += piece
            if len(self._got) == self._needed:
                self._next()
        return used

    def _next(self) -> None:
        got, self._got = bytes(self._got), bytearray()
        try:
            self._needed = self._steps.send(got)
        except StopIteration:
            self.is_done = True

    def _run(self) -> Steps:
        version, method = yield 2
        if version != VERSION:
            raise ProtocolError(
                f"the proxy does not speak SOCKS 5: its first byte is {version:#04x}"
            )
        if method == PASSWORD and self._login is not None:
            user, password = self._login
            self._output += bytes([PASSWORD_VERSION]) + user + password
            _, status = yield 2
            if status:
                raise ProtocolError(f"the proxy refused user and password (status {status})")
        elif method == NONE_ACCEPTABLE:
            asked = (
                "asks for a user and a password"
                if self._login is None
                else "accepts neither of our methods"
            )
            raise ProtocolError(f"the proxy {asked}, or for another way of authentication")
        elif method != NO_AUTHENTICATION:
            raise ProtocolError(
                f"the proxy chose a way of authentication that was not offered ({method:#04x})"
            )
        self._output += bytes([VERSION, CONNECT, 0]) + self._destination
        version, reply, _, kind = yield 4
        if version != VERSION:
            raise ProtocolError(
                f"the proxy's reply is not one of SOCKS 5: it begins with {version:#04x}"
            )
        if reply:
            kind_of_error = AddressError if reply in OF_THE_ADDRESS else ProtocolError
            raise kind_of_error(
                f"the proxy could not connect: {REPLIES.get(reply, f'reply {reply:#04x}')}"
            )
        yield from _bound_address(kind)


def _bound_address(kind: int) -> Steps:
    # Read the address that the proxy connected from, which has no use here.
    if kind == IPV4:
        yield 4 + 2
    elif kind == IPV6:
        yield 16 + 2
    elif kind == NAME:
        (length,) = yield 1
        yield length + 2
    else:
        raise ProtocolError(f"the proxy's reply has an unknown type of address ({kind:#04x})")


def _address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("ascii") if host.isascii() else host.encode("idna")
        if not 0 < len(name) < 256:
            raise ValueError(f"a host name has 1 to 255 bytes, not {len(name)}") from None
        return bytes([NAME, len(name)]) + name
    return bytes([IPV4 if address.version == 4 else IPV6]) + address.packed


def _short(what: str, text: str) -> bytes:
    data = text.encode()
    if not 0 < len(data) < 256:
        raise ValueError(f"the proxy's {what} has 1 to 255 bytes, not {len(data)} (RFC 1929, 2)")
    return bytes([len(data)]) + data
