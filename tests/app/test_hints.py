"""What the log adds to errors whose own text does not say what to do."""

from __future__ import annotations

import asyncio

import pytest

from gworker.app.hints import ASYNCIO, hint_for


async def run_again() -> None:
    """Run a loop inside a running one, in each way that asyncio refuses."""
    other = asyncio.new_event_loop()
    waiting = asyncio.sleep(0)
    try:
        with pytest.raises(RuntimeError) as nested:
            asyncio.run(waiting)
        with pytest.raises(RuntimeError) as second:
            other.run_forever()
        with pytest.raises(RuntimeError) as same:
            asyncio.get_running_loop().run_forever()
    finally:
        waiting.close()
        other.close()
    assert [hint_for(each.value) for each in (nested, second, same)] == [ASYNCIO] * 3


def test_asyncio_in_a_running_loop() -> None:
    asyncio.run(run_again())


@pytest.mark.parametrize(
    "error", [None, RuntimeError("no"), ValueError("This event loop is already running")]
)
def test_other_errors_have_no_hint(error: BaseException | None) -> None:
    assert hint_for(error) is None
