"""What is said to an HTTP proxy and by it, whole and byte by byte; what follows is not touched."""

from __future__ import annotations

import pytest
from proxy_dialogue import BEHIND, feed

from gworker.errors import ProtocolError
from gworker.protocols.proxies.http_connect import MAX_HEAD, HttpConnect


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
