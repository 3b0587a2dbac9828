"""The line of the user's code at which a child is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType

from gevent.monkey import get_original
from greenlet import getcurrent


def observe(directory: str) -> Callable[[], str]:
    """Observe the greenlet that calls this: the main one, which loads the target.

    Returns what tells its line as `models.py:12`, also if that greenlet waits and another one runs,
    and from any thread. directory: paths below it are shown from there on.
    """
    thread: int = get_original("_thread", "get_ident")()
    greenlet = getcurrent()

    def line() -> str:
        found = _line(greenlet.gr_frame or sys._current_frames().get(thread))
        return found.removeprefix(os.path.join(directory, ""))

    return line


def _line(frame: FrameType | None) -> str:
    # The innermost line of code that is the user's own, else of a library, else "".
    from gworker.process.import_tracker import FOREIGN, is_watched

    library = ""
    while frame is not None:
        path = frame.f_code.co_filename  # or "<string>", which is no place
        if is_watched(path):
            return f"{path}:{frame.f_lineno}"
        if (
            not library
            and os.path.isabs(path)
            and not path.startswith(FOREIGN)
            and "gevent" not in path.split(os.sep)
        ):
            library = f"{path}:{frame.f_lineno}"
        frame = frame.f_back
    return library
