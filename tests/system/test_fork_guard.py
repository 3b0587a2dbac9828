"""fork_guard: what a process and the copies that it forks do, in programs of their own."""

from __future__ import annotations

import subprocess

import places
import pytest

GUARDED = places.program("forks_with_guard")
SECONDS = 20
END = "end: False, 0 signals are blocked"


def run(case: str) -> tuple[list[str], str]:
    """The lines of all processes, and what is in stderr."""
    done = subprocess.run(
        [*GUARDED, case], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    return done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize(
    ("case", "code"),
    [("fork_and_go_on", 0), ("in_greenlet", 1), ("in_thread", 0), ("fork_and_make_greenlet", 0)],
)
def test_a_copy_ends_where_control_comes_back(case: str, code: int) -> None:
    lines, _ = run(case)
    assert lines == ["release", "copy: True", "flush", f"parent: {code}", END]


def test_what_escapes_from_a_copy_is_logged_and_its_exit_code_is_1() -> None:
    lines, errors = run("in_greenlet")
    assert "parent: 1" in lines
    assert "ValueError: of the copy" in errors


def test_the_text_of_an_exit_is_printed() -> None:
    lines, errors = run("exit_with_text")
    assert lines == ["release", "copy: True", "flush", "parent: 1", END]
    assert errors == "for stderr\n"


def test_a_copy_of_a_copy_releases_nothing_again() -> None:
    lines, _ = run("fork_twice")
    assert lines == [
        "release", "copy: True", "copy: True", "parent: 3", "parent: 3", END,
    ]  # fmt: skip


def test_a_child_that_executes_a_program_releases_nothing() -> None:
    assert run("execute")[0] == ["copy: False", END]


def test_a_greenlet_of_the_parent_does_not_run_on_in_the_copy() -> None:
    lines, _ = run("silenced")
    assert (lines.count("other"), lines[-2:]) == (1, ["parent: 0", END])


def test_a_copy_that_cannot_release_all_ends_at_once() -> None:
    lines, _ = run("failing")
    assert lines == ["release", "report: copy of a test cannot begin", "parent: 70", END]
