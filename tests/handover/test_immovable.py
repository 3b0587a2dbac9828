"""How many connections cannot move, and why."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from gworker.handover import immovable


def test_connections_are_counted_by_their_reason() -> None:
    reasons = ["TLS", "", "TLS", "own callbacks", ""]
    connections = {
        number: SimpleNamespace(migration_obstacle=why) for number, why in enumerate(reasons)
    }
    service: Any = SimpleNamespace(
        isolate_errors=lambda step: step, registry=SimpleNamespace(connections=connections)
    )
    found = immovable.count(service)
    assert found == Counter({"TLS": 2, "": 2, "own callbacks": 1})
    assert immovable.summary(found) == {"TLS": 2, "own callbacks": 1}


def test_of_many_reasons_the_most_frequent_are_told() -> None:
    found = Counter({f"reason {number}": number for number in range(1, 40)})
    told = immovable.summary(found)
    assert len(told) == immovable.MOST_REASONS
    assert min(told.values()) == 40 - immovable.MOST_REASONS
