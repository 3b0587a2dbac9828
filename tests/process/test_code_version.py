"""Whether gworker's own code on the disk is still the same."""

from __future__ import annotations

from pathlib import Path

import gworker
from gworker.process.code_version import code_version


def test_each_source_file_has_its_time() -> None:
    found = code_version()
    root = Path(gworker.__file__).parent
    assert set(found) == {str(path) for path in root.rglob("*.py")}
    assert found[gworker.__file__] == Path(gworker.__file__).stat().st_mtime_ns
    assert code_version() == found
