"""The line of the user's code at which a child is."""

from __future__ import annotations

import os
import sys
from types import FrameType

from gevent.monkey import get_original
from greenlet import getcurrent


class Observer:
    """Observes the greenlet that makes it: the main one, which loads the target.

    directory: paths below it are shown from there on.
    """

    def __init__(self, directory: str) -> None:
        self._directory = os.path.join(directory, "")
        self._thread: int = get_original("_thread", "get_ident")()
        self._greenlet = getcurrent()

    def line(self) -> str:
        """`models.py:12`, also if that greenlet waits and another one runs. From any thread."""
        waiting = self._greenlet.gr_frame
        found = _line(waiting or sys._current_frames().get(self._thread))
        return found.removeprefix(self._directory)


def _line(frame: FrameType | None) -> str:
    """The innermost line of code that is the user's own, else of a library, else ""."""
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
