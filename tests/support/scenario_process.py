"""Runs the scenarios of a module, in their process. `scenarios.py` starts it and hears how it
went."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

FAILED = "--- failed: "


def run(
    namespace: dict[str, Any], around: Callable[[Callable[[], None]], None] = lambda test: test()
) -> None:
    """Run all scenarios of a module, given as its `globals()`; each that has passed is named on
    stdout, of the others the traceback is on stderr. `around` runs one, with what is due before and
    after it."""
    is_fault = False
    for name, test in list(namespace.items()):
        if not name.startswith("test_"):
            continue
        try:
            around(test)
        except BaseException:
            is_fault = True
            print(f"{FAILED}{name}\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        else:
            print(name, flush=True)
    sys.exit(is_fault)


@contextmanager
def raises(kind: type[Exception], text: str = "") -> Iterator[None]:
    """The block raises `kind`, and says `text`; pytest's own would take as long to import as all
    the rest."""
    try:
        yield
    except kind as error:
        assert text in str(error), error
    else:
        raise AssertionError(f"no {kind.__name__}")
