"""Apps that are loaded."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from loading import Load

from gworker.app import loader
from gworker.app import worker as declarations
from gworker.app.worker import Worker


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """`load(source, attribute)` writes the app `app.py` into the current directory and loads it."""
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), dict(sys.modules)

    def load_source(
        source: str,
        attribute: str = "",
        bind: Sequence[str] = (),
        target: str = "app",
        app: str | None = None,
    ) -> list[Worker]:
        (tmp_path / "app.py").write_text(textwrap.dedent(source))
        sys.modules.pop("app", None)
        named = target + (f":{attribute}" if attribute else "")
        return loader.load(named, str(tmp_path), bind, app=app)

    yield load_source
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]
    sys.modules.update(modules)
    declarations.declared.clear()
