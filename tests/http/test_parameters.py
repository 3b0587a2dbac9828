"""Parameters: what is without any."""

from __future__ import annotations

from gworker.http import Parameters


def test_parameters_of_nothing():
    assert Parameters.parse("") == {}
    assert Parameters([("a", "1"), ("a", "2")]).get_all("a") == ["1", "2"]
