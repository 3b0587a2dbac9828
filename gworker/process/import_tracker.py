"""The files that a child has imported, reported to the arbiter for `--reload`.

A child reports when it has loaded the target (or failed to), and a worker process goes on once a
second, because imports inside functions come later. A module that fails to load is not in
`sys.modules`: its file is found in the traceback. A module that was not found may yet be written
beside those files.
"""

from __future__ import annotations

import glob
import os
import re
import sys
import sysconfig
import traceback

from gworker import version
from gworker.ipc.channel import Channel, chunks
from gworker.system import directory
from gworker.system.event_loop import Timer

POLL_SECONDS = 1.0

# Directories of code that is not edited while developing: Python's own, and ours.
FOREIGN = tuple(
    {
        os.path.join(path, "")
        for path in (
            sysconfig.get_path("stdlib"),
            sysconfig.get_path("platstdlib"),
            os.path.dirname(version.__file__),
        )
    }
)

LIBRARIES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

_FILE = re.compile(r'^[ |]*File "([^<].*)", line \d+', re.MULTILINE)  # in a traceback


def is_watched(path: str) -> bool:
    """True for a file that a developer edits: not Python's own, not an installed package's."""
    return (
        os.path.isabs(path)
        and not path.startswith(FOREIGN)
        and not any(each in path for each in LIBRARIES)
    )


def imported() -> set[str]:
    # Not getattr: a module that loads itself when an attribute is read must not do so here.
    names = {
        getattr(module, "__dict__", {}).get("__file__") for module in list(sys.modules.values())
    }
    return _watched({name for name in names if isinstance(name, str)})


def files_of(error: BaseException) -> set[str]:
    """The files that the traceback of `error` names, with those of its causes."""
    return _watched(set(_FILE.findall("".join(traceback.format_exception(error)))))


def _watched(names: set[str]) -> set[str]:
    return {path for path in map(_absolute, names) if is_watched(path)}


def _absolute(path: str) -> str:
    try:
        return directory.absolute(path)
    except FileNotFoundError:  # the current directory was removed
        return ""


class ImportReporter:
    """Reports each file once.

    since: when loading began, in seconds since the epoch; what was changed after that may have been
    read before.
    """

    def __init__(self, channel: Channel, since: float) -> None:
        self._channel = channel
        self._since = since
        self._reported: set[str] = set()
        self._modules = 0
        self._timer: Timer | None = None

    def start(self) -> None:
        """Poll now and once a second, from the event loop of this worker process."""
        from gevent import get_hub

        self.poll()
        self._timer = get_hub().loop.timer(POLL_SECONDS, POLL_SECONDS, ref=False)
        self._timer.start(self.poll)

    def poll(self) -> None:
        modules = len(sys.modules)
        if modules != self._modules and self._report(imported()):
            self._modules = modules

    def report_failure(self, error: BaseException) -> None:
        """Report what a load that failed depends on, and where a missing module may appear."""
        files = imported() | files_of(error)
        self._report(files)
        beside = {_absolute(""), *map(os.path.dirname, files)} - {""}
        for chunk in chunks(os.path.join(glob.escape(each), "*.py") for each in sorted(beside)):
            self._send([], chunk)

    def _report(self, files: set[str]) -> bool:
        for chunk in chunks(sorted(files - self._reported)):
            if not self._send(chunk, []):
                return False  # the arbiter is behind: at the next poll
            self._reported.update(chunk)
        return True

    def _send(self, files: list[str], patterns: list[str]) -> bool:
        return self._channel.send(
            {"event": "files", "files": files, "patterns": patterns, "since": self._since}
        )
