"""Real instances for the tests: started by the command line, on ephemeral ports, with private
runtime directories."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from instance import Instance
from serving import Served


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that every user may enter. Those of `tmp_path` are closed whenever another pytest
    starts."""
    with tempfile.TemporaryDirectory(prefix="gworker-tests-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    """`instance(source, *options)` starts an instance of an app and returns it; all are stopped in
    the end."""
    made: list[Instance] = []

    def start(source: str, *options: str, **how: object) -> Instance:
        one = Instance(tmp_path / f"instance-{len(made)}", source)
        made.append(one)
        one.start(*options, **how)  # type: ignore[arg-type]
        return one

    yield start
    for one in made:
        one.kill()


@pytest.fixture
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """`serving(source, *options)` serves an app as it stands in a file; all are stopped in the
    end."""
    made: list[Served] = []

    def start(source: str, *options: str) -> Served:
        one = Served(tmp_path_factory.mktemp("serving") / "app", "")
        made.append(one)
        (one.directory / "app.py").write_text(source)
        one.start(*options)
        return one

    yield start
    for one in made:
        one.kill()
