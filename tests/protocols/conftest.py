"""What drives a protocol in these tests."""

from __future__ import annotations

import pytest
from driving import Drive


@pytest.fixture(scope="session")
def drive() -> Drive:
    return Drive()
