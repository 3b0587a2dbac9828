"""The options of a Worker: limits, and sizes with units."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gworker.app import worker as declarations
from gworker.app.options import LIMITS
from gworker.app.worker import Worker
from gworker.errors import ConfigError


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    declarations.declared.clear()
    declarations.running.clear()


@pytest.mark.parametrize("limit", LIMITS)
def test_limits(limit: str) -> None:
    assert Worker(**{limit: 7}).limits == {limit: 7}
    assert Worker(**{limit: 0}).limits == {limit: 0}
    for bad in (-1, "seven", None, True, [], float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=f"Worker 'shop': {limit}="):
            Worker(name="shop", **{limit: bad})


def test_sizes_may_have_units() -> None:
    assert Worker(max_package_size="2MiB", max_send_buffer_size="64K").limits == {
        "max_package_size": 2 << 20, "max_send_buffer_size": 65536,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="idle_timeout='2MiB' is not a number"):
        Worker(idle_timeout="2MiB")
