"""Addresses of brokers: what they mean, what is wrong with them, and that no password is told."""

from __future__ import annotations

import pytest

from gworker.broker.url import LOCAL, parse, read, without_password
from gworker.errors import BrokerError


def test_local_and_memory() -> None:
    assert parse("local") is LOCAL
    assert not LOCAL.is_redis
    assert parse("memory").kind == "memory"
    assert not parse("memory").is_redis


def test_a_redis() -> None:
    found = parse("redis://10.0.0.5")
    assert (found.kind, found.hosts, found.database, found.tls) == (
        "redis", (("10.0.0.5", 6379),), 0, False,
    )  # fmt: skip
    assert found.is_redis
    assert (found.user, found.password) == ("", "")
    found = parse("rediss://app:s%40c:ret@[::1]:7000/3")
    assert (found.hosts, found.database, found.tls) == ((("::1", 7000),), 3, True)
    assert (found.user, found.password) == ("app", "s@c:ret")


def test_a_password_may_hold_what_parts_an_address() -> None:
    found = parse("redis://:a/b@c@host/1")
    assert (found.password, found.hosts, found.database) == ("a/b@c", (("host", 6379),), 1)


def test_sentinels() -> None:
    found = parse("redis+sentinel://:secret@h1,h2:7000,[::1]/mymaster/2")
    assert found.kind == "sentinel"
    assert found.hosts == (("h1", 26379), ("h2", 7000), ("::1", 26379))
    assert (found.service, found.database, found.password) == ("mymaster", 2, "secret")


def test_a_cluster() -> None:
    found = parse("redis+cluster://h1,h2:7001,h3")
    assert (found.kind, found.hosts) == ("cluster", (("h1", 6379), ("h2", 7001), ("h3", 6379)))


def test_tls() -> None:
    found = parse("rediss+sentinel://h1,h2/mymaster")
    assert (found.kind, found.tls, found.service) == ("sentinel", True, "mymaster")
    assert not parse("redis+sentinel://h1,h2/mymaster").tls
    found = parse("rediss+cluster://:secret@h1,h2:7001")
    assert (found.kind, found.tls, found.hosts[1]) == ("cluster", True, ("h2", 7001))
    assert not parse("redis+cluster://h1").tls
    with pytest.raises(BrokerError):
        parse("rediss+unix:///run/redis.sock")


def test_a_unix_socket() -> None:
    found = parse("redis+unix://:secret@/run/my%20redis.sock")
    assert (found.kind, found.path, found.password) == ("unix", "/run/my redis.sock", "secret")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected local, redis://"),
        ("Local", "expected local, redis://"),
        ("nats://h", "expected local, redis://"),
        ("redis:h", "expected local, redis://"),
        ("redis://", "expected a host"),
        ("redis:///1", "expected a host"),
        ("redis://h:0", "expected a port from 1 to 65535 instead of '0'"),
        ("redis://h:65536", "expected a port from 1 to 65535 instead of '65536'"),
        ("redis://h:", "expected a port from 1 to 65535 instead of ''"),
        ("redis://:6379", "expected a host instead of ':6379'"),
        ("redis://::1:6379", "expected an IPv6 address in brackets"),
        ("redis://[::1", "expected an IPv6 address in brackets"),
        ("redis://[::1]6379", "expected an IPv6 address in brackets"),
        ("redis://h/one", "expected the number of a database instead of 'one'"),
        ("redis://h/1/2", "expected the number of a database instead of '1/2'"),
        ("redis://h1,h2", "expected one host"),
        ("redis://h?db=1", "expected nothing behind 'h'"),
        ("redis://h/1#x", "expected nothing behind 'h/1'"),
        ("redis://h ", "expected an address without spaces"),
        ("redis://user@h", "expected a password after a colon"),
        ("redis+sentinel://h1,h2", "expected the name that the Sentinels watch"),
        ("redis+sentinel://h1,,h2/m", "expected a host"),
        ("redis+cluster://h1/1", "expected no /1 at the end"),
        ("redis+unix://run/x", "expected an absolute path"),
        ("redis+unix:///", "expected an absolute path"),
    ],
)
def test_what_is_wrong(text: str, expected: str) -> None:
    with pytest.raises(BrokerError) as caught:
        parse(text)
    assert expected in str(caught.value)
    assert repr(text) in str(caught.value) or "@" in text


@pytest.mark.parametrize(
    "text", ["redis://app:secret@h/1", "redis://:se/cret@h", "redis+cluster://:secret@h1,h2"]
)
def test_no_text_has_the_password(text: str) -> None:
    found = read(text)
    assert "cret" not in f"{found} {found!r} {without_password(text)}"
    assert str(found).endswith("://***@" + text.rpartition("@")[2])


@pytest.mark.parametrize(
    "text",
    ["redis://:secret@h:99999", "redis://:se/cret@secret@h:x", "nats://:secret@h", ":cret@h"],
)
def test_no_fault_has_the_password(text: str) -> None:
    with pytest.raises(BrokerError, match=r"\*\*\*@h") as caught:
        parse(text)
    assert "cret" not in str(caught.value)
