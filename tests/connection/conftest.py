"""For the tests of connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pure import using
from served import CORES, Served


@pytest.fixture(params=list(CORES))
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Connections in the event loop of the test, with each core."""
    loaded = CORES[request.param]
    with using(loaded):
        one = Served(loaded)
        yield one
        one.close()
