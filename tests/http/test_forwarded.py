"""The client by what proxies say: only those that are trusted, and from the end."""

from __future__ import annotations

import pickle
import time
from typing import Any

import pytest

from gworker.config.trusted_proxies import Trust
from gworker.http import Request
from gworker.http.forwarded import Origin, client_of
from gworker.system.peer_address import ip, text

TRUST = Trust("127.0.0.1,10.0.0.0/8,::1,unix")


PEER = ("127.0.0.1", 5000)


def request(*fields: str, peer: object = PEER, trust: Trust | None = TRUST) -> Request:
    head = "\r\n".join(["GET / HTTP/1.1", "Host: inner", *fields, "", ""]).encode("latin-1")
    return Request(head, origin=peer if trust is None else Origin(peer, trust))


@pytest.mark.parametrize(
    ("fields", "client"),
    [
        ((), "127.0.0.1"),
        (("X-Forwarded-For: 192.0.2.7",), "192.0.2.7"),
        (("X-Forwarded-For: 6.6.6.6, 192.0.2.7",), "192.0.2.7"),
        (("X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.7"), "192.0.2.7"),
        (("X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.1.2.3, ::1",), "192.0.2.7"),
        (("X-Forwarded-For: 10.1.2.3, 10.1.2.4",), "10.1.2.3"),
        (("X-Forwarded-For: 192.0.2.7:4000",), "192.0.2.7"),
        (("X-Forwarded-For: [2001:DB8::7]:4000",), "2001:db8::7"),
        (("X-Forwarded-For: 2001:db8::7",), "2001:db8::7"),
        (("X-Forwarded-For: ::ffff:192.0.2.7",), "192.0.2.7"),
        (("X-Forwarded-For: ::ffff:10.0.0.1",), "10.0.0.1"),
        (("X-Forwarded-For: unknown",), ""),
        (("X-Forwarded-For: 192.0.2.7, unknown, 10.0.0.1",), ""),
        (("X-Forwarded-For: <script>",), ""),
        (("X-Forwarded-For: 192.0.2.7,",), "192.0.2.7"),
        (("X-Forwarded-For: [::1",), ""),
        (("X-Forwarded-For: 1.2.3.4:x",), ""),
        (("X-Forwarded-For: 192.0.2.7", "Forwarded: for=6.6.6.6"), "192.0.2.7"),
        (("Forwarded: for=192.0.2.7",), "192.0.2.7"),
        (('Forwarded: For="[2001:db8:cafe::17]:4711";proto=https',), "2001:db8:cafe::17"),
        (("Forwarded: for=6.6.6.6, for=192.0.2.7;by=10.0.0.1",), "192.0.2.7"),
        (("Forwarded: for=6.6.6.6", "Forwarded: for=192.0.2.7, for=10.0.0.9"), "192.0.2.7"),
        (('Forwarded: for="_gazonk", for=10.0.0.2',), ""),
        (("Forwarded: for=unknown",), ""),
        (('Forwarded: for="192.0.2.7:80"',), "192.0.2.7"),
        (('Forwarded: for="192.0.2\\.7"',), "192.0.2.7"),
        (('Forwarded: for="192.0.2.7',), ""),
        (("Forwarded: for=192.0.2.7;for=6.6.6.6",), ""),
        (('Forwarded: for="x, for=192.0.2.7',), "192.0.2.7"),
        (('Forwarded: for="x, for="[2001:db8::7]";host="a"',), "2001:db8::7"),
        (('Forwarded: for="x\\, for=192.0.2.7',), "192.0.2.7"),
        (
            ('Forwarded: for=6.6.6.6;by=", for=6.6.6.7, for="192.0.2.7:80", for=10.0.0.9',),
            "192.0.2.7",
        ),
        (("Forwarded: for=6.6.6.6;for=6.6.6.7, for=192.0.2.7;by=10.0.0.1",), "192.0.2.7"),
        (("Forwarded: for = 6.6.6.6, for=192.0.2.7",), "192.0.2.7"),
        (('Forwarded: for="x, for=10.0.0.9',), ""),
        (('Forwarded: for=192.0.2.7, for="x',), ""),
        (('Forwarded: for=192.0.2.7, for="x,',), ""),
        (('Forwarded: for="a,b";proto=http, for=192.0.2.7',), "192.0.2.7"),
        (("Forwarded: for = 192.0.2.7",), ""),
        (("Forwarded: ",), "127.0.0.1"),
        (("Forwarded: for=6.6.6.6;;proto=http , , for=192.0.2.7 ;proto=https",), "192.0.2.7"),
    ],
)
def test_the_client_of_a_request_from_a_trusted_peer(fields: tuple[str, ...], client: str) -> None:
    assert request(*fields).client_ip == client


@pytest.mark.parametrize(
    "field", ["X-Forwarded-For: 192.0.2.7", "Forwarded: for=192.0.2.7;proto=https;host=x"]
)
def test_no_other_peer_is_believed(field: str) -> None:
    asked = request(
        field,
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: x",
        peer=("203.0.113.5", 1),
        trust=None,
    )
    assert (asked.client_ip, asked.scheme, asked.host) == ("203.0.113.5", "http", "inner")


@pytest.mark.parametrize(
    ("fields", "scheme", "host"),
    [
        ((), "http", "inner"),
        (("X-Forwarded-Proto: https",), "https", "inner"),
        (
            ("X-Forwarded-Proto: wss", "X-Forwarded-Host: example.org:8443"),
            "https",
            "example.org:8443",
        ),
        (("X-Forwarded-Proto: gopher", "X-Forwarded-Host: a b"), "http", "inner"),
        (
            ("X-Forwarded-For: 192.0.2.7, 10.0.0.1", "X-Forwarded-Proto: https, http"),
            "https",
            "inner",
        ),
        (
            ("X-Forwarded-For: 6.6.6.6, 192.0.2.7", "X-Forwarded-Proto: https, http"),
            "http",
            "inner",
        ),
        (("Forwarded: for=192.0.2.7;proto=HTTPS;host=example.org",), "https", "example.org"),
        (("Forwarded: for=6.6.6.6;host=evil, for=192.0.2.7;proto=https",), "https", "inner"),
        (("Forwarded: for=192.0.2.7;proto=https, for=10.0.0.1;host=h",), "https", "h"),
    ],
)
def test_scheme_and_host(fields: tuple[str, ...], scheme: str, host: str) -> None:
    asked = request(*fields)
    assert (asked.scheme, asked.host) == (scheme, host)


@pytest.mark.parametrize(
    ("target", "origin", "scheme", "host"),
    [
        ("http://outer:81/x", PEER, "http", "outer:81"),
        ("http://outer:81/x@y", PEER, "http", "outer:81"),
        ("https://outer/x", PEER, "http", "outer"),
        ("HTTPS://outer", Origin(PEER, TRUST), "https", "outer"),
        ("https://outer?x", Origin(PEER, None, "https"), "https", "outer"),
        ("http://outer/", Origin(PEER, None, "https"), "http", "outer"),
        ("/http://outer/", PEER, "http", "inner"),
    ],
)
def test_a_target_that_is_a_whole_url(target: str, origin: object, scheme: str, host: str) -> None:
    asked = Request(f"GET {target} HTTP/1.1\r\nHost: inner\r\n\r\n".encode(), origin=origin)
    assert (asked.scheme, asked.host) == (scheme, host)


def test_a_trusted_proxy_says_more_than_the_target() -> None:
    head = b"GET http://outer/ HTTP/1.1\r\nHost: inner\r\nX-Forwarded-Host: outermost\r\n\r\n"
    assert Request(head, origin=Origin(PEER, TRUST)).host == "outermost"


def test_over_a_unix_socket() -> None:
    assert request("X-Forwarded-For: 192.0.2.7", peer="").client_ip == "192.0.2.7"
    assert request("X-Forwarded-For: 192.0.2.7", peer="", trust=None).client_ip == ""


def test_a_request_that_moves_takes_it_along() -> None:
    copy = pickle.loads(pickle.dumps(request("X-Forwarded-For: 192.0.2.7, 10.0.0.1")))
    assert copy.client_ip == "192.0.2.7"


class Connection:
    """It works out its origin when it is asked, and cannot be pickled."""

    def __init__(self, peer: tuple[str, int], trust: Trust | None = None) -> None:
        self.peer = peer
        self.trust = trust

    @property
    def origin(self) -> Any:
        return self.peer if self.trust is None else Origin(self.peer, self.trust)

    def __reduce__(self) -> Any:
        raise TypeError


def test_a_connection_is_asked_when_the_client_is() -> None:
    head = b"GET / HTTP/1.1\r\nHost: inner\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
    connection = Connection(("127.0.0.1", 5))
    one = Request(head, origin=connection)
    connection.trust = TRUST
    assert one.client_ip == "192.0.2.7"
    assert pickle.loads(pickle.dumps(one)).client_ip == "192.0.2.7"
    assert client_of(one.headers, connection).ip == "192.0.2.7"


@pytest.mark.parametrize(
    ("there", "is_asked"),
    [
        (Connection(PEER, Trust("127.0.0.1,10.0.0.0/8,::1,unix")), True),
        (Connection(PEER, Trust("")), False),
        (Connection(PEER), False),
        (Connection(("127.0.0.2", 5000), TRUST), False),
    ],
)
def test_a_request_that_has_moved_asks_its_connection_if_that_says_the_same(
    there: Connection, is_asked: bool
) -> None:
    copy = pickle.loads(pickle.dumps(request("X-Forwarded-For: 192.0.2.7")))
    copy.come_from(there)
    assert copy.client_ip == "192.0.2.7"
    copy.forget()
    there.peer, there.trust = ("198.51.100.1", 1), None
    assert copy.client_ip == ("198.51.100.1" if is_asked else "192.0.2.7")


def test_many_hops_are_followed_to_a_bound() -> None:
    assert (
        request("X-Forwarded-For: " + ", ".join(["192.0.2.7", *["10.0.0.1"] * 5000])).client_ip
        == "10.0.0.1"
    )


@pytest.mark.parametrize(
    "field",
    [
        "for=192.0.2.7;" + " " * 16000 + "x",
        " " * 16000 + "x",
        "for=192.0.2.7" + " \t" * 8000 + "x",
        'a="' + "," * 16000,
        'a="' + ",a=b" * 4000,
        'a=",' * 4000,
        ",".join(["a=b;" * 10 + 'c="'] * 400),
        "".join(f'{chr(97 + at % 26)}{at}=",' for at in range(3000)) + "x",
        "".join(f'a{at}=",";' for at in range(2000)) + "x y",
        r'a="\",' * 2500,
    ],
    ids=range(10),
)
def test_what_is_malformed_costs_no_more_than_its_length(field: str) -> None:
    asked = request(f"Forwarded: {field}")
    began = time.process_time()
    assert asked.client_ip in ("", "127.0.0.1")
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("trust", [None, TRUST])
def test_an_ipv4_client_of_a_socket_for_both_families_has_its_ipv4_address(
    trust: Trust | None,
) -> None:
    peer = ("::ffff:192.0.2.7", 4000, 0, 0)
    asked = Request(
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", origin=peer if trust is None else Origin(peer, trust)
    )
    assert asked.client_ip == "192.0.2.7"
    assert (ip(peer), text(peer)) == ("192.0.2.7", "192.0.2.7:4000")
    for other in ("::ffff:0:0", "2001:db8::ffff:1", "::1"):
        assert (ip((other, 1, 0, 0)), text((other, 1, 0, 0))) == (other, f"[{other}]:1")
