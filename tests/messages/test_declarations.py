"""What is declared of groups."""

from __future__ import annotations

from typing import Any

import pytest

from gworker.errors import ConfigError
from gworker.messages import declarations
from gworker.messages.declarations import DEFAULT, Declarations, checked


def test_the_first_that_matches_holds() -> None:
    ours = Declarations()
    for pattern in ("room.vip.*", "room.*", "[ab]?"):
        ours.add(checked(pattern))
    found = [ours.of(group).pattern for group in ("room.vip.1", "room.1", "a1", "a12", "Room.1")]
    assert found == ["room.vip.*", "room.*", "[ab]?", "*", "*"]
    assert ours.of("other") is DEFAULT
    ours.add(checked("other", mode="latest"))
    assert ours.of("other").mode == "latest"


def test_many_groups_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declarations, "REMEMBERED", 3)
    ours = Declarations()
    ours.add(checked("room.*", presence=True))
    for number in range(10):
        assert ours.of(f"room.{number}").presence
        assert len(ours._found) <= 3


def test_the_same_pattern_twice() -> None:
    ours = Declarations()
    ours.add(checked("room.*", mode="recoverable", ttl=5))
    ours.add(checked("room.*", mode="recoverable", ttl=5.0))
    with pytest.raises(ConfigError, match=r"'room.\*' are declared twice.*\"ttl\":6.0.*\"ttl\":5"):
        ours.add(checked("room.*", mode="recoverable", ttl=6))
    with pytest.raises(ConfigError, match="declared twice"):
        ours.add(checked("room.*", mode="fleeting", ttl=5))
    assert [each.ttl for each in ours] == [5.0]


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"pattern": 5}, TypeError, "a pattern is a str"),
        ({"mode": "durable"}, ValueError, "'fleeting' or 'recoverable' or 'latest'"),
        ({"slow": "wait"}, ValueError, "'drop' or 'close'"),
        ({"history": 0}, ValueError, "expected 1 to 10000"),
        ({"history": True}, ValueError, "expected 1 to 10000"),
        ({"ttl": 0}, ValueError, "expected seconds"),
        ({"ttl": "5"}, ValueError, "expected seconds"),
        ({"presence": 1}, TypeError, "expected True or False"),
        ({"wrap": "x"}, TypeError, "cannot be called"),
    ],
)
def test_what_cannot_be_declared(given: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        checked(**{"pattern": "x", **given})


def test_a_recoverable_group_closes_slow_members() -> None:
    assert checked("x", mode="recoverable", slow="drop").slow == "close"
    assert checked("x", mode="latest").slow == "drop"


def test_what_is_stored_is_what_processes_share() -> None:
    one, other = checked("x", slow="close", wrap=print), checked("x")
    assert one.text == other.text
    assert (one.ttl_ms, one.keeps) == (b"300000", False)
