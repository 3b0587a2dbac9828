"""The addresses that a client dials."""

from __future__ import annotations

import pytest

from gworker.client.url import Proxy, Target, parse, parse_proxy
from gworker.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "transport", "target"),
    [
        ("tcp://127.0.0.1:80", None, Target("tcp", "tcp", "tcp", host="127.0.0.1", port=80)),
        (
            "TEXT://Example.ORG:80/",
            None,
            Target("text", "text", "tcp", host="example.org", port=80),
        ),
        ("frame://[::1]:80", None, Target("frame", "frame", "tcp", host="::1", port=80)),
        ("udp://h:80", None, Target("udp", "udp", "udp", host="h", port=80)),
        ("text://h:80", "udp", Target("text", "text", "udp", host="h", port=80)),
        ("mine://h:80", None, Target("mine", "mine", "tcp", host="h", port=80)),
        ("unix:///run/a b.sock", None, Target("unix", "tcp", "unix", path="/run/a b.sock")),
        ("text:///run/a.sock", "unix", Target("text", "text", "unix", path="/run/a.sock")),
        ("tls://h:80", None, Target("tls", "tcp", "tcp", True, "h", 80)),
        ("text://h:80", "ssl", Target("text", "text", "tcp", True, "h", 80)),
        ("ws://h", None, Target("ws", "ws", "tcp", host="h", port=80)),
        (
            "wss://h/chat?room=1&x=%20",
            None,
            Target("wss", "ws", "tcp", True, "h", 443, resource="/chat?room=1&x=%20"),
        ),
        (
            "websocket://[::1]:81?x",
            None,
            Target("websocket", "ws", "tcp", host="::1", port=81, resource="/?x"),
        ),
    ],
)
def test_an_address_is_taken_apart(url: str, transport: str | None, target: Target) -> None:
    assert parse(url, transport) == target


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("127.0.0.1:80", "expected SCHEME"),
        ("tcp://127.0.0.1", "expected a port"),
        ("tcp://[::1]", "expected a port"),
        ("tcp://::1:80", "brackets"),
        ("tcp://[::1:80", "connect to"),
        ("tcp://h:0", "port '0' is not a number from 1 to 65535"),
        ("tcp://h:65536", "port '65536'"),
        ("tcp://h:x", "port 'x'"),
        ("tcp://:80", "expected a host"),
        ("tcp://h:80/path", "behind the port"),
        ("ws://h/p#fragment", "behind the port"),
        ("ws://h/p q", "percent-encoded"),
        ("ws://h/\r\nX: y", "characters"),
        ("unix://run/x", "absolute path"),
        ("unix:///" + "x" * 108, "at most 107 bytes"),
        ("https://h:80", "https has no client here"),
    ],
)
def test_what_is_wrong_with_it_is_said(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse(url)


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match="a user has no meaning there") as caught:
        parse("ws://me:secret@h/")
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        parse_proxy("ftp://me:secret@h/")
    assert "secret" not in str(caught.value)
    assert "secret" not in str(parse_proxy("http://me:secret@h"))


def test_a_message_names_the_address_and_not_the_query() -> None:
    assert str(parse("wss://[::1]/?token=secret")) == "wss://[::1]:443"
    assert str(parse("unix:///run/x")) == "unix:///run/x"


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("socks5://h", Proxy("socks5", "h", 1080, None, "")),
        ("socks5h://u%40x:p%3Aw@[::1]:99", Proxy("socks5h", "::1", 99, "u@x", "p:w")),
        ("http://u@h:3128/", Proxy("http", "h", 3128, "u", "")),
    ],
)
def test_a_proxy(url: str, proxy: Proxy) -> None:
    assert parse_proxy(url) == proxy


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://h:1", "expected one of socks5://HOST:PORT, socks5h"),
        ("h:1", "expected one of"),
        ("http://h/path", "expected http://"),
        ("http://:80", "expected http://"),
        ("socks5://h:99999", "port '99999'"),
    ],
)
def test_what_is_wrong_with_a_proxy_is_said(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse_proxy(url)


def test_an_unknown_transport() -> None:
    with pytest.raises(ConfigError, match="unknown transport 'sctp'"):
        parse("tcp://h:1", "sctp")


def test_a_name_that_is_not_ascii_is_dialled_as_dns_has_it() -> None:
    assert parse("wss://Bücher.example/x").host == "xn--bcher-kva.example"
    with pytest.raises(
        ConfigError, match="^connect to 'tcp://ü..b:1': 'ü..b' is no name of a host: "
    ):
        parse("tcp://ü..b:1")
