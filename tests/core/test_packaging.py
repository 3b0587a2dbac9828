"""Which core an installation has, and which one runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import places
import pytest

from gworker import core
from gworker.core import python

BUILT = find_spec("gworker.core._core")
CHOSEN = "from gworker.core import IMPLEMENTATION; print(IMPLEMENTATION)"
UNSET = {"GWORKER_PURE": "", "GWORKER_REQUIRE_CORE": ""}


def run(cwd: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd, env={**os.environ, **UNSET, **environ}, text=True, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip


# ---- which one runs


@pytest.mark.parametrize("value", ["", "0"])
def test_the_compiled_one_runs_where_it_is_built(value: str) -> None:
    expected = "compiled" if BUILT else "Python"
    assert run(places.ROOT, "-c", CHOSEN, GWORKER_PURE=value).stdout == f"{expected}\n"


def test_gworker_pure_chooses_python() -> None:
    assert run(places.ROOT, "-c", CHOSEN, GWORKER_PURE="1").stdout == "Python\n"


def test_one_that_does_not_load_is_an_error(tmp_path: Path) -> None:
    copy(tmp_path)
    (tmp_path / "gworker" / "core" / "_core.abi3.so").write_bytes(b"no library")
    done = run(tmp_path, "-c", CHOSEN)
    assert done.stderr.splitlines()[-1].startswith("ImportError: ")
    assert run(tmp_path, "-c", CHOSEN, GWORKER_PURE="1").stdout == "Python\n"


@pytest.mark.skipif(BUILT is None, reason="there is no compiled core")
def test_the_compiled_one_is_made_of_this_source() -> None:
    assert BUILT is not None
    assert BUILT.origin is not None
    built = Path(BUILT.origin).stat().st_mtime
    for source in (places.ROOT / "gworker" / "core").glob("*.p*x*"):
        assert source.stat().st_mtime <= built, "`make core` builds it anew"


@pytest.mark.skipif(BUILT is None, reason="there is no compiled core")
def test_both_have_the_names_of_the_package() -> None:
    compiled = import_module("gworker.core._core")
    for name in core.__all__:
        assert callable(getattr(compiled, name)) == callable(getattr(python, name)), name


# ---- which one is built


def copy(directory: Path) -> None:
    """The project, with a core that compiles quickly."""
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(places.ROOT / name, directory)
    package = directory / "gworker" / "core"
    package.mkdir(parents=True, exist_ok=True)
    for name in ("__init__.py", "version.py"):
        shutil.copy(places.ROOT / "gworker" / name, directory / "gworker")
    for path in (places.ROOT / "gworker" / "core").glob("*.py"):
        shutil.copy(path, package)
    (package / "_core.pyx").write_text(f"{' = '.join(core.__all__)} = 'compiled'\n")


def build(directory: Path, **environ: str) -> tuple[int, str]:
    """The exit code, and which core runs then."""
    copy(directory)
    done = run(directory, "setup.py", "build_ext", "--inplace", **environ)
    return done.returncode, run(directory, "-c", CHOSEN).stdout.strip()


@pytest.mark.skipif(BUILT is None, reason="there is no compiler")
def test_with_a_compiler_it_is_built(tmp_path: Path) -> None:
    assert build(tmp_path) == (0, "compiled")


def test_without_a_compiler_it_is_left_out(tmp_path: Path) -> None:
    assert build(tmp_path, CC="/nonexistent/cc") == (0, "Python")


def test_without_a_compiler_it_is_an_error_where_it_has_to_be_there(tmp_path: Path) -> None:
    code, runs = build(tmp_path, CC="/nonexistent/cc", GWORKER_REQUIRE_CORE="1")
    assert (code != 0, runs) == (True, "Python")


def test_gworker_pure_leaves_it_out(tmp_path: Path) -> None:
    assert build(tmp_path, GWORKER_PURE="1", GWORKER_REQUIRE_CORE="1") == (0, "Python")


# ---- what the installation says


def test_the_version_names_it() -> None:
    for value in ("", "1"):
        name = run(places.ROOT, "-c", CHOSEN, GWORKER_PURE=value).stdout
        done = run(places.ROOT, "-m", "gworker", "--version", GWORKER_PURE=value)
        assert done.stdout.endswith(f", {name.strip()} core\n")
