"""File names for instance names: safe, short, and different for different names."""

from __future__ import annotations

import pytest

from gworker.config.slug import MAX_SLUG, slug


@pytest.mark.parametrize("name", ["shop", "app.handlers", "a_b-c", "x" * MAX_SLUG])
def test_what_is_safe_stays(name: str) -> None:
    assert slug(name) == name


@pytest.mark.parametrize(
    "name", ["app:handlers", "path/to/file.py", "..", "-n", ".hidden", "", "é", "\udc80", "x" * 65]
)
def test_anything_else_becomes_a_safe_name_that_stays(name: str) -> None:
    made = slug(name)
    assert 0 < len(made) <= MAX_SLUG
    assert made[0] not in "-."
    assert "/" not in made
    assert slug(made) == made


def test_names_that_look_alike_have_different_files() -> None:
    assert len({slug(name) for name in ("a:b", "a/b", "a b", "a-b")}) == 4
