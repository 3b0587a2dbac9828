"""What the tests of all proxies have in common."""

from __future__ import annotations

import pytest


@pytest.fixture(params=[1, 2, 7, 1 << 20], ids=["bytewise", "in pairs", "in sevens", "whole"])
def pace(request: pytest.FixtureRequest) -> int:
    """Bytes that are shown at a time."""
    return int(request.param)
