"""Tracebacks for the author of a target: they begin in the target, not in gworker."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from traceback import TracebackException
from types import TracebackType

from gworker import version
from gworker.errors import GworkerError

GWORKER = os.path.join(os.path.dirname(version.__file__), "")
# How the names of files begin that hold the code between gworker and the target.
BETWEEN = (GWORKER, "<frozen importlib", importlib.__file__)


def of_target(error: BaseException) -> str:
    """The traceback of an error that the target raises while it is loaded or started, with the
    frames of the target only.

    Without such a frame: "" for a GworkerError about the target; all frames of another error raised
    by gworker, which is a fault of gworker.
    """
    found = TracebackException.from_exception(error)
    if all(frame.filename.startswith(BETWEEN) for frame in found.stack):
        if isinstance(error, GworkerError):
            return ""
        if found.stack and found.stack[-1].filename.startswith(GWORKER):
            return "".join(found.format())
    for each in _chain(found):
        each.stack[:] = [frame for frame in each.stack if not frame.filename.startswith(BETWEEN)]
        if not each.stack:  # else a headline without a line below it is shown
            each.stack = None  # type: ignore[assignment]
    return "".join(found.format())


def _chain(found: TracebackException) -> Iterator[TracebackException]:
    yield found
    for each in (found.__cause__, found.__context__, *(found.exceptions or ())):
        if each is not None:
            yield from _chain(each)


def from_target_on(frames: TracebackType | None) -> TracebackType | None:
    """The frames from the target's first one on; all of them if none is the target's."""
    found = frames
    while found is not None and found.tb_frame.f_code.co_filename.startswith(BETWEEN):
        found = found.tb_next
    return found or frames
