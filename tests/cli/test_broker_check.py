"""What is wrong with the broker of the settings: told before anything starts, and by `check`."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gworker.broker.url import BrokerUrl, parse
from gworker.cli import broker_check, machine_check
from gworker.config.settings import Layer, Settings, resolve
from gworker.errors import ConfigError


def settings(url: str = "local", **values: Any) -> Settings:
    return resolve("app", Layer("test", {"broker": parse(url), **values}))


def test_the_local_broker_needs_nothing() -> None:
    broker_check.check(settings())
    assert broker_check.examine(settings()) == []


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
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[BrokerUrl, str]]:
    """The Redis that is examined, which is faulty."""
    calls: list[tuple[BrokerUrl, str]] = []

    def examine(url: BrokerUrl, cluster: str) -> list[str]:
        calls.append((url, cluster))
        return ["version 6.2 is older than 7.0", "it has 64 partitions"]

    monkeypatch.setitem(sys.modules, "gworker.broker.redis", SimpleNamespace(examine=examine))
    return calls


def test_a_redis_is_asked(asked: list[tuple[BrokerUrl, str]]) -> None:
    given = settings("redis://:secret@h", cluster_name="shop")
    faults = [
        "broker redis://***@h: version 6.2 is older than 7.0",
        "broker redis://***@h: it has 64 partitions",
    ]
    assert broker_check.examine(given) == faults
    assert asked == [(given.broker, "shop")]
    assert [each.text for each in machine_check.broker(given)] == faults
    assert {each.state for each in machine_check.broker(given)} == {machine_check.MEND}


def test_the_machine_check_names_what_is_missing() -> None:
    (found,) = machine_check.broker(settings("redis://:secret@h"))
    assert found.state == machine_check.MEND
    assert "a --cluster-name is missing" in found.text
    assert list(machine_check.broker(settings())) == [("broker", "ok", "local")]
