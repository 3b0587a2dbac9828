"""What servers say of themselves, and what their errors mean."""

from __future__ import annotations

import pytest
import redis

from gworker.broker.redis.partitions import PARTITIONS
from gworker.broker.redis.topology import Servers, check_fit, facts_of, failure, text_of
from gworker.broker.url import parse
from gworker.errors import BrokerDown, BrokerError

ADDRESS = ("10.0.0.5", 6379)


def test_the_text_of_an_address() -> None:
    assert text_of(ADDRESS) == "10.0.0.5:6379"
    assert text_of(("::1", 6379)) == "[::1]:6379"
    assert text_of("/run/redis.sock") == "/run/redis.sock"


def test_a_single_server_owns_all() -> None:
    topology = Servers(parse("redis://10.0.0.5"), "name").resolve(0)
    assert topology.owners == (ADDRESS,) * PARTITIONS


def test_the_facts_of_info() -> None:
    facts = facts_of(b"# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n")
    assert facts == {"redis_version": "7.0.15", "redis_mode": "standalone"}


@pytest.mark.parametrize(
    ("version", "mode", "is_cluster_url", "words"),
    [
        ("6.2.14", "standalone", False, "is Redis 6.2.14; 7.0 is the oldest"),
        ("7.2.4", "cluster", False, r"redis\+cluster://"),
        ("7.2.4", "sentinel", False, r"redis\+sentinel://"),
        ("7.0.0", "standalone", False, ""),
        ("10.1.0", "cluster", True, ""),
    ],
)
def test_what_is_fit(version: str, mode: str, is_cluster_url: bool, words: str) -> None:
    facts = {"redis_version": version, "redis_mode": mode}
    if not words:
        check_fit(ADDRESS, facts, is_cluster_url)
    else:
        with pytest.raises(BrokerError, match=words):
            check_fit(ADDRESS, facts, is_cluster_url)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (redis.TimeoutError("Timeout"), BrokerDown, "10.0.0.5:6379 does not answer"),
        (
            redis.AuthenticationError("Authentication required.", status_code="NOAUTH"),
            BrokerError,
            "wants a password",
        ),
        (redis.AuthenticationError("invalid"), BrokerError, "refuses the user or password"),
        (redis.BusyLoadingError("Redis", status_code="LOADING"), BrokerDown, "still loads"),
        (redis.ResponseError("unknown command"), BrokerError, "unknown command"),
        (ConnectionResetError(104, "reset"), BrokerDown, "reset"),
    ],
)
def test_what_an_error_means(error: Exception, kind: type[Exception], words: str) -> None:
    meaning = failure(ADDRESS, error)
    assert type(meaning) is kind
    assert words in str(meaning)
