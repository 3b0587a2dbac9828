"""Listen addresses: every scheme and form, every fault, and back to text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gworker.errors import ConfigError
from gworker.system.address import MAX_UNIX_PATH, Address, parse

GOOD = [
    ("tcp://127.0.0.1:80", Address("tcp", "tcp", "127.0.0.1", 80)),
    ("text://0.0.0.0:0", Address("text", "tcp", "0.0.0.0", 0)),
    ("frame://localhost:65535", Address("frame", "tcp", "localhost", 65535)),
    ("websocket://127.0.0.1:9501", Address("websocket", "tcp", "127.0.0.1", 9501)),
    ("ws://127.0.0.1:9501", Address("ws", "tcp", "127.0.0.1", 9501)),
    ("http://127.0.0.1:8000/", Address("http", "tcp", "127.0.0.1", 8000)),
    ("HTTP://example.org:8000", Address("http", "tcp", "example.org", 8000)),
    ("udp://127.0.0.1:53", Address("udp", "udp", "127.0.0.1", 53)),
    ("mine://127.0.0.1:1", Address("mine", "tcp", "127.0.0.1", 1)),
    ("tcp://:8000", Address("tcp", "tcp", "0.0.0.0", 8000)),
    ("tcp://[::1]:8000", Address("tcp", "tcp", "::1", 8000)),
    ("http://[::]:0", Address("http", "tcp", "::", 0)),
    ("unix:///run/app.sock", Address("unix", "unix", path="/run/app.sock")),
    ("unix:///tmp/with:colon", Address("unix", "unix", path="/tmp/with:colon")),
]

BAD = [
    "",
    "tcp",
    "127.0.0.1:80",
    "://127.0.0.1:80",
    "tcp:127.0.0.1:80",
    "tcp://",
    "tcp://127.0.0.1",
    "tcp://127.0.0.1:",
    "tcp://127.0.0.1:http",
    "tcp://127.0.0.1:-1",
    "tcp://127.0.0.1:+80",
    "tcp://127.0.0.1:8_0",
    "tcp://127.0.0.1: 80",
    "tcp://127.0.0.1:65536",
    "tcp://127.0.0.1:99999999999999999999",
    "tcp://127.0.0.1:٨٠",
    "tcp://127.0.0.1:80/path",
    "tcp://::1:80",
    "tcp://[::1]",
    "unix://",
    "unix://relative.sock",
    "unix:///" + "x" * MAX_UNIX_PATH,
    "unix:///" + "ä" * (MAX_UNIX_PATH // 2 + 1),
]


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("udp://127.0.0.1:1", "tcp"),
        ("udp://127.0.0.1:1", "unix"),
        ("unix:///tmp/a", "tcp"),
        ("udp://127.0.0.1:1", "ssl"),
    ],
)
def test_a_transport_that_contradicts_the_scheme(url: str, transport: str) -> None:
    with pytest.raises(ConfigError, match=r"contradicts|UDP is none"):
        parse(url, transport)


@pytest.mark.parametrize(("url", "address"), GOOD)
def test_parse(url: str, address: Address) -> None:
    assert parse(url) == address


@pytest.mark.parametrize("url", BAD)
def test_a_bad_address_is_named(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(url)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize(
    ("url", "transport", "address"),
    [
        ("text://127.0.0.1:1", "udp", Address("text", "udp", "127.0.0.1", 1)),
        ("text://127.0.0.1:1", "tcp", Address("text", "tcp", "127.0.0.1", 1)),
        ("text:///run/a.sock", "unix", Address("text", "unix", path="/run/a.sock")),
    ],
)
def test_a_transport_overrides_the_scheme(url: str, transport: str, address: Address) -> None:
    assert parse(url, transport) == address


@pytest.mark.parametrize(
    ("url", "transport"), [("text:///run/a.sock", None), ("tcp://127.0.0.1:1", "unix")]
)
def test_a_path_where_a_host_belongs_and_the_reverse(url: str, transport: str | None) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse(url, transport)


def test_an_unknown_transport_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'sctp', expected one of tcp, udp, unix"):
        parse("tcp://127.0.0.1:1", "sctp")


def test_the_longest_path() -> None:
    path = "/" + "x" * (MAX_UNIX_PATH - 1)
    assert parse("unix://" + path).path == path


@pytest.mark.parametrize("path", ["/run/\udcff.sock", "@\udcff"])
def test_a_path_may_be_no_utf8(path: str) -> None:
    assert parse("unix://" + path).path == path


@pytest.mark.parametrize("address", [address for _, address in GOOD])
def test_url_is_what_parse_reads(address: Address) -> None:
    assert parse(address.url) == address


@given(
    st.sampled_from(["tcp", "http", "udp", "mine"]),
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
    st.integers(0, 65535),
)
def test_every_ip_address_survives_the_round_trip(scheme: str, host: str, port: int) -> None:
    bracketed = f"[{host}]" if ":" in host else host
    address = parse(f"{scheme}://{bracketed}:{port}")
    assert (address.host, address.port) == (host, port)
    assert parse(address.url) == address


@given(st.text(max_size=40))
def test_any_text_parses_or_is_a_config_error(text: str) -> None:
    try:
        address = parse(text)
    except ConfigError:
        return
    assert parse(address.url) == address


def test_with_port() -> None:
    assert parse("tcp://[::1]:0").with_port(4711).url == "tcp://[::1]:4711"


def test_which_have_tls() -> None:
    assert [
        parse(f"{scheme}://h:1").tls for scheme in ("wss", "https", "tls", "ssl", "tcp", "ws")
    ] == [True] * 4 + [False] * 2
    assert parse("text://h:1", "ssl").tls
    assert parse("text://h:1", "ssl").transport == "tcp"
    assert parse("unix:///a", "ssl").transport == "unix"
    with pytest.raises(ConfigError, match="UDP is none"):
        parse("udp://h:1", "ssl")
