"""The header of the PROXY protocol, versions 1 and 2 (HAProxy, doc/proxy-protocol.txt): the address
of the client that connected to the proxy.

It comes once, before the first byte of the connection. `parse` is given all bytes so far:

    a Header         the header is complete and has `size` bytes; the connection's own follow
    None             more is needed: all of these bytes belong to the header
    ProtocolError    this is no PROXY header
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from gworker.errors import ProtocolError

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
PREFIX: Final = b"PROXY "

# Bytes of a line of version 1, with its end (2.1).
MAX_LINE: Final = 107

# Bytes of version 2 before the addresses (2.2).
FIXED: Final = 16

# Bytes that may follow them: the addresses of two unix sockets are 216, and what TLS adds is a
# certificate's name.
MAX_REST: Final = 4096

Endpoint = tuple[str, int]


class Header(NamedTuple):
    """source, destination: (IP address, port).

    None: the connection is the proxy's own (LOCAL), or its client has no IP address (UNKNOWN,
    unix).
    """

    size: int
    source: Endpoint | None = None
    destination: Endpoint | None = None


def parse(data: bytes) -> Header | None:
    """The header that `data` begins with; None if it is incomplete. Raises ProtocolError if there
    is none."""
    if data[:1] == b"P" and PREFIX.startswith(data[:6]):
        return _parse_line(data)
    if SIGNATURE.startswith(data[:12]):
        return _parse_binary(data)
    raise ProtocolError(f"no PROXY header: it begins with {data[:16]!r}")


# ---- version 1: a line of text

_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_LINE = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) ([0-9]{1,5}) ([0-9]{1,5})\r\n"
)


def _parse_line(data: bytes) -> Header | None:
    end = data.find(b"\n", 0, MAX_LINE)
    if end < 0:
        if len(data) >= MAX_LINE or b"\r" in data[:-1]:
            raise ProtocolError("the line of a PROXY header does not end")
        return None
    line = data[: end + 1]
    if _UNKNOWN.fullmatch(line):
        return Header(len(line))
    found = _LINE.fullmatch(line)
    if found is None:
        raise ProtocolError(f"malformed PROXY header: {line!r}")
    try:
        return Header(
            len(line),
            _endpoint(found[1], found[2], found[4]),
            _endpoint(found[1], found[3], found[5]),
        )
    except ValueError as error:
        raise ProtocolError(f"malformed PROXY header: {error}") from None


def _endpoint(family: bytes, host: bytes, port: bytes) -> Endpoint:
    text = host.decode()
    number = int(port)
    if number > 65535 or (len(port) > 1 and port[:1] == b"0"):
        raise ValueError(f"port {port.decode()}")
    return str(IPv4Address(text) if family == b"TCP4" else IPv6Address(text)), number


# ---- version 2: binary

_LOCAL, _PROXY = 0x20, 0x21
# By address family, the upper half of the byte: none, IPv4, IPv6, unix.
_ADDRESS_SIZES = {0: 0, 1: 12, 2: 36, 3: 216}


def _parse_binary(data: bytes) -> Header | None:
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        raise ProtocolError(
            f"PROXY header of version and command {data[12]:#04x}, expected 0x20 or 0x21"
        )
    if len(data) > 13 and (data[13] >> 4 > 3 or data[13] & 15 > 2):
        raise ProtocolError(f"PROXY header of family and transport {data[13]:#04x}")
    if len(data) < FIXED:
        return None
    rest = int.from_bytes(data[14:16], "big")
    if rest > MAX_REST:
        raise ProtocolError(f"PROXY header of {rest} bytes; at most {MAX_REST} are taken")
    if len(data) < FIXED + rest:
        return None
    header, family = bytes(data[: FIXED + rest]), data[13] >> 4
    if data[12] == _LOCAL:  # whatever follows is to be skipped (2.2)
        return Header(len(header))
    size = _ADDRESS_SIZES[family]
    if rest < size:
        raise ProtocolError(f"PROXY header of {rest} bytes, too few for addresses of {size}")
    _check_extensions(header, FIXED + size)
    if family not in (1, 2) or not data[13] & 15:
        return Header(len(header))
    make, width = (IPv4Address, 4) if family == 1 else (IPv6Address, 16)
    hosts = [str(make(header[at : at + width])) for at in (FIXED, FIXED + width)]
    ports = [
        int.from_bytes(header[at : at + 2], "big")
        for at in (FIXED + 2 * width, FIXED + 2 * width + 2)
    ]
    return Header(len(header), (hosts[0], ports[0]), (hosts[1], ports[1]))


def _check_extensions(header: bytes, at: int) -> None:
    # Step over the type-length-value vectors (2.2); nothing that they say is of use.
    while at < len(header):
        at += 3 + int.from_bytes(header[at + 1 : at + 3], "big")
    if at > len(header):
        raise ProtocolError("PROXY header whose extensions are cut off")
