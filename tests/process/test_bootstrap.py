"""What the arbiter looks up once for its children: its own code on the disk.

How a child begins: integration/test_booting.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gworker import version
from gworker.process.bootstrap import code_version


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, which is the one that is asked about."""
    shutil.copytree(Path(version.__file__).parent, tmp_path / "gworker")
    monkeypatch.setattr(version, "__file__", str(tmp_path / "gworker" / "version.py"))
    return tmp_path / "gworker"


def rewrite(path: Path) -> None:
    """Other code of the same size with the same time, as from a reproducible build."""
    text, times = path.read_bytes(), path.stat()
    path.write_bytes(text.replace(b'"""', b"'''"))
    assert path.stat().st_size == times.st_size
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replace_version(path: Path) -> None:
    path.with_name("version.py").write_text('__version__ = "9.9.9"\n')


@pytest.mark.parametrize(
    "change",
    [
        rewrite,
        replace_version,
        Path.unlink,
        lambda path: path.rename(path.with_name("renamed.py")),
        lambda path: path.with_name("new.py").touch(),
    ],
    ids=["same size and time", "version", "removed", "renamed", "added"],
)
def test_other_code_is_noticed(package: Path, change: Callable[[Path], object]) -> None:
    before = code_version()
    change(package / "errors.py")
    assert code_version() != before


def test_the_same_code_with_other_times_is_the_same(package: Path) -> None:
    before = code_version()
    for path in package.rglob("*.py"):
        os.utime(path, (1, 1))
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "errors.cpython-399.pyc").write_bytes(b"x")
    assert code_version() == before
