"""What a child has imported, told to the arbiter for `--reload`.

A child tells when it has loaded the target (or failed to), and a worker process goes on to look
once a second, because imports inside functions come later. Of a load that failed there is more to
say than what is in `sys.modules`: the files of its traceback, the one in which a SyntaxError is,
and patterns for a module that was not found and may yet be written.
"""

from __future__ import annotations

import glob
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from typing import Any

from gworker import version
from gworker.ipc.channel import Channel, chunks
from gworker.system import directory

LOOK_SECONDS = 1.0

LIBRARIES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def _foreign() -> tuple[str, ...]:
    """Directories of code that nobody edits while developing: Python's own, and ours."""
    named = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
    return tuple(
        {os.path.join(each, "") for each in (*named, os.path.dirname(version.__file__)) if each}
    )


FOREIGN = _foreign()


def is_watched(path: str) -> bool:
    """True for a file that a developer edits: not Python's own, not an installed package's."""
    return (
        os.path.isabs(path)
        and not path.startswith(FOREIGN)
        and not any(each in path for each in LIBRARIES)
    )


def imported() -> set[str]:
    """The files of the modules that are loaded now."""
    found = set()
    for module in list(sys.modules.values()):
        # Not getattr: modules that load themselves when asked for something are not to be asked.
        path = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(path, str):
            found.add(_absolute(path))
    return {path for path in found if is_watched(path)}


def blamed(error: BaseException | None) -> set[str]:
    """The files that `error`, or what it came from, went through."""
    found: set[str] = set()
    for each in _chain(error):
        frames = each.__traceback__
        while frames is not None:
            found.add(frames.tb_frame.f_code.co_filename)
            frames = frames.tb_next
        if isinstance(each, SyntaxError) and each.filename:
            found.add(each.filename)
    # Not every name is a file's: "<string>".
    return {
        path for name in found if not name.startswith("<") and is_watched(path := _absolute(name))
    }


def _absolute(path: str) -> str:
    try:
        return directory.absolute(path)
    except FileNotFoundError:  # the current directory was removed
        return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__]


class Telling:
    """Tells each file once. `since`: when loading began, in seconds since the epoch; what was
    changed after that may have been read before."""

    def __init__(self, channel: Channel, since: float) -> None:
        self._channel = channel
        self._since = since
        self._told: set[str] = set()
        self._modules = 0
        self._timer: Any = None

    def keep_looking(self) -> None:
        """Look now and once a second, from the event loop of this worker process."""
        from gevent import get_hub

        self.look()
        self._timer = get_hub().loop.timer(LOOK_SECONDS, LOOK_SECONDS, ref=False)
        self._timer.start(self.look)

    def look(self) -> None:
        """Tell what was imported since the last look; costs next to nothing if that is nothing."""
        if len(sys.modules) == self._modules:
            return
        modules = len(sys.modules)
        if self._tell(imported() - self._told):
            self._modules = modules

    def failed(self, error: BaseException) -> None:
        """Tell what a load that failed depends on; missing modules may appear beside what there
        is."""
        files = imported() | blamed(error)
        beside = {
            directory for directory in (_absolute(""), *map(os.path.dirname, files)) if directory
        }
        self._tell(files - self._told)
        self._tell(set(), sorted(os.path.join(glob.escape(each), "*.py") for each in beside))

    def _tell(self, files: set[str], patterns: Iterable[str] = ()) -> bool:
        for chunk in chunks(sorted(files)):
            if not self._channel.send(
                {"event": "files", "files": chunk, "patterns": [], "since": self._since}
            ):
                return False  # the arbiter is behind; at the next look
            self._told.update(chunk)
        for chunk in chunks(patterns):
            self._channel.send(
                {"event": "files", "files": [], "patterns": chunk, "since": self._since}
            )
        return True
