"""The tests stand as the code stands: `tests/<package>/test_<module>.py` proves
`gworker/<package>/<module>.py`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import places
import pytest

PARTED = "is being parted"

ELSEWHERE = {}
"""Modules without a test file of their name: which file proves them, and why it is another one."""

MAX_LINES = 10
"""Lines of a text in a test; longer ones are files, which are linted."""


def modules() -> Iterator[str]:
    for path in sorted((places.ROOT / "gworker").rglob("*.py")):
        if path.name not in ("__init__.py", "__main__.py"):
            yield str(path.relative_to(places.ROOT / "gworker"))


def file_of(module: str) -> Path:
    path = Path(module)
    return places.TESTS / path.parent / f"test_{path.name}"


def test_each_module_has_a_test_file_of_its_name() -> None:
    without = [each for each in modules() if not file_of(each).exists()]
    assert [each for each in without if each not in ELSEWHERE] == []


@pytest.mark.parametrize("module", ELSEWHERE)
def test_what_is_proved_elsewhere(module: str) -> None:
    where, reason = ELSEWHERE[module]
    assert (places.ROOT / "gworker" / module).exists(), "there is no such module"
    assert not file_of(module).exists(), "it has a test file"
    assert (places.TESTS / where).exists(), f"there is no {where}"
    assert reason


def texts(tree: ast.Module) -> Iterator[ast.expr]:
    """The literals of a file, without its docstrings and the comments behind attributes."""
    said = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    for each in ast.walk(tree):
        is_text = isinstance(each, ast.Constant) and isinstance(each.value, str | bytes)
        if (is_text or isinstance(each, ast.JoinedStr)) and id(each) not in said:
            yield each


def test_programs_are_files() -> None:
    long = [
        f"{path.relative_to(places.ROOT)}:{each.lineno}"
        for path in sorted(places.TESTS.rglob("*.py"))
        for each in texts(ast.parse(path.read_text()))
        if (each.end_lineno or 0) - each.lineno >= MAX_LINES
    ]
    assert long == []
