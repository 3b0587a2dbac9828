"""The dialogues with proxies, whole and byte by byte. What follows them is never touched."""

from __future__ import annotations

import pytest

from gworker.errors import ProtocolError
from gworker.protocols.proxies.http_connect import MAX_HEAD, HttpConnect
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


@pytest.fixture(params=[1, 2, 7, 1 << 20], ids=["bytewise", "in pairs", "in sevens", "whole"])
def pace(request: pytest.FixtureRequest) -> int:
    return int(request.param)


# ---- SOCKS 5


@pytest.mark.parametrize(
    ("host", "encoded"),
    [
        ("192.0.2.7", b"\1\xc0\0\2\7"),
        ("2001:db8::1", b"\4" + bytes.fromhex("20010db8000000000000000000000001")),
        ("example.org", b"\3\x0bexample.org"),
        ("bücher.example", b"\3\x15xn--bcher-kva.example"),
    ],
)
def test_socks_asks_for_the_destination(host: str, encoded: bytes, pace: int) -> None:
    machine = Socks5(host, 443)
    assert machine.data_to_send() == b"\5\1\0"
    assert feed(machine, b"\5\0", pace) == b""
    assert machine.data_to_send() == b"\5\1\0" + encoded + b"\x01\xbb"
    assert machine.data_to_send() == b""
    assert not machine.is_done
    assert feed(machine, b"\5\0\0\1\x7f\0\0\1\x12\x34" + BEHIND, pace) == BEHIND
    assert machine.is_done


@pytest.mark.parametrize("bound", [b"\1" + bytes(4), b"\4" + bytes(16), b"\3\5proxy", b"\3\0"])
def test_socks_reads_the_whole_reply_whatever_address_is_in_it(bound: bytes, pace: int) -> None:
    machine = Socks5("192.0.2.7", 80)
    assert feed(machine, b"\5\0", pace) == b""
    assert feed(machine, b"\5\0\0" + bound + b"\0\0" + BEHIND, pace) == BEHIND


def test_socks_logs_in(pace: int) -> None:
    machine = Socks5("192.0.2.7", 80, "me", "pässword")
    assert machine.data_to_send() == b"\5\2\0\2"
    feed(machine, b"\5\2", pace)
    assert machine.data_to_send() == b"\1\2me\x09" + "pässword".encode()
    feed(machine, b"\1\0", pace)
    assert machine.data_to_send().startswith(b"\5\1\0\1")
    assert feed(machine, b"\5\0\0\1" + bytes(6) + BEHIND, pace) == BEHIND


def test_socks_with_a_login_that_nobody_asks_for() -> None:
    machine = Socks5("192.0.2.7", 80, "me", "password")
    machine.data_to_send()
    machine.take(b"\5\0")
    assert machine.data_to_send().startswith(b"\5\1\0\1")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([b"\4\0"], "does not speak SOCKS 5: its first byte is 0x04"),
        ([b"HT"], "does not speak SOCKS 5"),
        ([b"\5\xff"], "asks for a user and a password"),
        ([b"\5\2"], "not offered"),
        ([b"\5\1"], "not offered"),
        ([b"\5\0", b"\5\5\0\1"], "could not connect: connection refused"),
        ([b"\5\0", b"\5\x42\0\1"], "could not connect: reply 0x42"),
        ([b"\5\0", b"\4\0\0\1"], "not one of SOCKS 5"),
        ([b"\5\0", b"\5\0\0\2"], "unknown type of address"),
    ],
)
def test_socks_says_what_went_wrong(said: list[bytes], why: str, pace: int) -> None:
    machine = Socks5("192.0.2.7", 80)
    with pytest.raises(ProtocolError, match=why):
        for data in said:
            feed(machine, data, pace)


@pytest.mark.parametrize(
    ("said", "why"), [(b"\5\2", "refused user and password"), (b"\5\xff", "neither of our")]
)
def test_socks_login_refused(said: bytes, why: str) -> None:
    machine = Socks5("192.0.2.7", 80, "me", "wrong")
    with pytest.raises(ProtocolError, match=why):
        machine.take(said + b"\1\1")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("a" * 256, 80), "host name has 1 to 255 bytes, not 256"),
        (("", 80), "host name has 1 to 255"),
        (("h", 80, "u" * 256, "p"), "user has 1 to 255 bytes, not 256"),
        (("h", 80, "u", ""), "password has 1 to 255 bytes, not 0"),
    ],
)
def test_socks_refuses_what_it_cannot_carry(arguments: tuple[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Socks5(*arguments)


# ---- CONNECT


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        ("example.org", "example.org:443"),
        ("2001:db8::1", "[2001:db8::1]:443"),
        ("bücher.example", "xn--bcher-kva.example:443"),
    ],
)
def test_http_asks_for_a_tunnel(host: str, authority: str) -> None:
    machine = HttpConnect(host, 443)
    assert (
        machine.data_to_send().decode()
        == f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    )
    assert machine.data_to_send() == b""


def test_http_logs_in_with_basic() -> None:
    """The example of RFC 7617, 2."""
    lines = HttpConnect("h", 1, "Aladdin", "open sesame").data_to_send().split(b"\r\n")
    assert b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==" in lines


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n",
        b"HTTP/1.1 204\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 "
        b"OK\r\n\r\n",
    ],
)
def test_http_takes_the_head_and_not_a_byte_more(answer: bytes, pace: int) -> None:
    machine = HttpConnect("example.org", 443)
    assert feed(machine, answer + BEHIND, pace) == BEHIND
    assert machine.is_done


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "answered 407 Proxy Authentication Required$",
        ),
        (b"HTTP/1.1 502\r\n\r\n", "answered 502$"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "answered 101"),
        (b"HTTP/2 200 OK\r\n\r\n", "does not answer in HTTP/1"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "does not answer in HTTP/1"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "no answer of HTTP/1"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD, "longer than 65536 bytes"),
    ],
)
def test_http_says_what_went_wrong(answer: bytes, why: str, pace: int) -> None:
    with pytest.raises(ProtocolError, match=why):
        feed(HttpConnect("example.org", 443), answer, max(pace, len(answer) // 100))


@pytest.mark.parametrize("host", ["", "a b", "a\r\nX: y", "a/b", "u@h"])
def test_http_refuses_a_host_that_is_none(host: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        HttpConnect(host, 443)


def test_http_refuses_a_user_with_a_colon() -> None:
    with pytest.raises(ValueError, match="colon"):
        HttpConnect("h", 1, "a:b", "c")
