"""The control socket, for the tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from control_loop import Loop


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    """A control socket that is open, in a loop."""
    loop = Loop(str(tmp_path / "app.sock"))
    yield loop
    loop.end()
