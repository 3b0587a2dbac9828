"""What is wrong with the broker of the settings: told before anything starts, and by `check`."""

from __future__ import annotations

from typing import Any

import pytest

from gworker.broker.redis import check as redis_check
from gworker.broker.url import BrokerUrl, parse
from gworker.cli import broker_check, machine_check
from gworker.config.settings import Layer, Settings, resolve
from gworker.errors import BrokerError, ConfigError


def settings(url: str = "local", **values: Any) -> Settings:
    return resolve("app", Layer("test", {"broker": parse(url), **values}))


def test_the_local_broker_needs_nothing() -> None:
    broker_check.check(settings())
    assert broker_check.examine(settings()) == "local"


def test_a_redis_needs_a_cluster_name() -> None:
    with pytest.raises(ConfigError) as caught:
        broker_check.check(settings("redis://:secret@h"))
    assert str(caught.value).startswith("broker redis://***@h: a --cluster-name is missing")


def test_a_redis_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_check, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        broker_check.check(settings("redis://:secret@h", cluster_name="shop"))
    assert str(caught.value) == (
        "broker redis://***@h: the package redis is not installed: pip install 'gworker[redis]'"
    )


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str | Exception]:
    """What examining a Redis comes to."""
    found: list[str | Exception] = []

    def examine(url: BrokerUrl, cluster: str) -> str:
        assert (url.password, cluster) == ("secret", "shop")
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]

    monkeypatch.setattr(redis_check, "examine", examine)
    return found


def test_a_redis_is_asked(answers: list[str | Exception]) -> None:
    given = settings("redis://:secret@h", cluster_name="shop")
    answers.append("Redis 7.2.4, 1 master")
    assert machine_check.broker(given) == (
        "broker", machine_check.OK, "redis://***@h: Redis 7.2.4, 1 master",
    )  # fmt: skip
    answers[0] = BrokerError("redis://***@h: Redis 6.2 is older than 7.0")
    assert machine_check.broker(given) == ("broker", machine_check.MEND, str(answers[0]))
    with pytest.raises(BrokerError):
        broker_check.examine(given)


def test_the_machine_check_names_what_is_missing() -> None:
    found = machine_check.broker(settings("redis://:secret@h"))
    assert found.state == machine_check.MEND
    assert "a --cluster-name is missing" in found.text
    assert machine_check.broker(settings()) == ("broker", "ok", "local")
