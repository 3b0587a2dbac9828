"""On which line of the user's code a child stands."""

from __future__ import annotations

import threading
from pathlib import Path

from gworker.process.source_position import observe

HERE = Path(__file__)


def test_the_line_is_that_of_the_greenlet_that_made_it_also_for_a_thread() -> None:
    line_of, found = observe(str(HERE.parent)), []
    other = threading.Thread(target=lambda: found.append(line_of()))
    other.start()
    other.join()
    (line,) = found
    name, _, number = line.partition(":")
    assert name == HERE.name
    assert "other." in HERE.read_text().splitlines()[int(number) - 1]


def test_what_is_not_below_the_directory_is_shown_whole() -> None:
    assert observe("/elsewhere")().startswith(f"{HERE}:")
