"""The header of the PROXY protocol: whole, byte by byte, with bytes behind it, and what is none."""

from __future__ import annotations

import socket

import pytest

from gworker.errors import ProtocolError
from gworker.protocols.proxies.haproxy import MAX_LINE, MAX_REST, SIGNATURE, Header, parse


def binary(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


IP4 = (
    socket.inet_aton("192.0.2.7")
    + socket.inet_aton("198.51.100.1")
    + (40000).to_bytes(2, "big")
    + b"\x01\xbb"
)
IP6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + bytes(15)
    + b"\x01"
    + b"\x00\x05"
    + b"\x00\x50"
)


GOOD = [
    (
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n",
        ("192.0.2.7", 40000),
        ("198.51.100.1", 443),
    ),
    (b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n", ("2001:db8::7", 0), ("::1", 65535)),
    (
        b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
        "longest",
        "longest",
    ),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n", None, None),
    (binary(0x21, 0x11, IP4), ("192.0.2.7", 40000), ("198.51.100.1", 443)),
    (binary(0x21, 0x21, IP6), ("2001:db8::7", 5), ("::1", 80)),
    (binary(0x21, 0x12, IP4), ("192.0.2.7", 40000), ("198.51.100.1", 443)),
    (
        binary(0x21, 0x11, IP4 + b"\x01\x00\x02h2\x04\x00\x00"),
        ("192.0.2.7", 40000),
        ("198.51.100.1", 443),
    ),
    (  # a checksum, which is not looked at
        binary(0x21, 0x11, IP4 + b"\x02\x00\x01a\x03\x00\x04abcd"),
        ("192.0.2.7", 40000),
        ("198.51.100.1", 443),
    ),
    (binary(0x21, 0x31, b"/client".ljust(108, b"\0") + b"/server".ljust(108, b"\0")), None, None),
    (binary(0x21, 0x00, b""), None, None),
    (binary(0x20, 0x00, b""), None, None),
    (binary(0x20, 0x11, b"\xff" * 7), None, None),  # LOCAL: whatever is in it is skipped
]

BAD = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"PROXZ",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n",
    b"PROXY TCP4 192.0.2.7  198.51.100.1 40000 443\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 040 443\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP6 192.0.2.7 ::1 1 2\r\n",
    b"PROXY UDP4 192.0.2.7 192.0.2.7 1 2\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\rx",
    b"PROXY UNKNOWN " + b"x" * MAX_LINE,
    b"\r\n\r\n\x00\r\nQUIX",
    binary(0x11, 0x11, IP4),
    binary(0x22, 0x11, IP4),
    binary(0x21, 0x41, IP4),
    binary(0x21, 0x13, IP4),
    binary(0x21, 0x11, IP4[:-1]),
    binary(0x21, 0x21, IP4),
    binary(0x21, 0x11, IP4 + b"\x01\x00\x03h2"),
    binary(0x21, 0x11, IP4 + b"\x01\x00"),
    SIGNATURE + b"\x21\x11" + (MAX_REST + 1).to_bytes(2, "big"),
]


@pytest.mark.parametrize(("data", "source", "destination"), GOOD, ids=range(len(GOOD)))
@pytest.mark.parametrize("behind", [b"", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"PROXY UNKNOWN\r\n"])
def test_whole_and_with_bytes_behind_it(
    data: bytes, source: object, destination: object, behind: bytes
) -> None:
    header = parse(data + behind)
    assert header is not None
    assert header.size == len(data)
    if source == "longest":
        assert header.source == header.destination == (":".join(["ffff"] * 8), 65535)
    else:
        assert header == Header(len(data), source, destination)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [data for data, _, _ in GOOD], ids=range(len(GOOD)))
def test_every_part_of_one_is_incomplete(data: bytes) -> None:
    assert [parse(data[:end]) for end in range(len(data))] == [None] * len(data)
    assert parse(data) is not None


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_what_is_none_is_refused_byte_by_byte_too(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="PROXY"):
        parse(data)
    with pytest.raises(ProtocolError):
        for end in range(len(data) + 1):
            assert parse(data[:end]) is None
