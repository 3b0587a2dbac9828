"""How a dialled connection comes to be open, and when the next attempt to connect follows."""

from __future__ import annotations

import pytest
import scenarios

from gworker.client.connector import backoff

test_scenario = scenarios.of("opening")


@pytest.mark.parametrize(
    ("after", "factor", "most", "failures", "seconds"),
    [
        (1, 2, 10, 0, 1),
        (1, 2, 10, 1, 1),
        (1, 2, 10, 3, 4),
        (1, 2, 10, 5, 10),
        (1, 2, 60, 10**6, 60),
        (5, 1, 60, 99, 5),
    ],
)
def test_it_grows_to_its_most(
    after: float, factor: float, most: float, failures: int, seconds: float
) -> None:
    assert backoff(after, factor, most, 0, failures) == seconds


def test_jitter_spreads_it_around() -> None:
    found = [backoff(10, 1, 60, 0.2, 0) for _ in range(500)]
    assert min(found) >= 8
    assert max(found) <= 12
    assert max(found) - min(found) > 3
