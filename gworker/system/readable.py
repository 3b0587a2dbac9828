"""Whether a process that has become another user can read Python and gworker, or why not.

Python takes a directory that it may not read for an empty one. Without this check, a user that
cannot read the interpreter's own files gets the error that there is no module `concurrent`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from importlib.util import find_spec

from gworker import version
from gworker.errors import ConfigError


def parts() -> dict[str, str]:
    """The parts of every process of an instance, each with one of its files. To be called in the
    arbiter, which can read them."""
    gevent = find_spec("gevent")
    return {
        "Python": os.__file__,
        "gworker": version.__file__,
        "gevent": (gevent and gevent.origin) or version.__file__,
    }


def check(user: str, files: Mapping[str, str]) -> None:
    """Raise ConfigError for the first of `files` that this process, which has become `user`, cannot
    read."""
    for what, path in files.items():
        if fault := why_unreadable(path):
            raise ConfigError(f"user {user!r} cannot read {what}: {fault}")


def why_unreadable(path: str) -> str:
    """Why this process cannot read a file or directory; "" if it can, or there is none."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    except PermissionError:
        why = _closed(os.path.abspath(path)) or _closed(os.path.realpath(path)) or _mode(path)
        return f"{path} ({why})"
    except OSError:
        return ""
    return ""


def _closed(path: str) -> str:
    # The first directory above `path` that this process cannot enter, or "".
    directory = os.sep
    for name in os.path.dirname(path).split(os.sep):
        directory = os.path.join(directory, name)
        try:
            os.stat(os.path.join(directory, "."))
        except PermissionError:
            return _mode(directory)
        except OSError:
            break
    return ""


def _mode(path: str) -> str:
    found = os.stat(path)
    return f"{path} has mode {stat.S_IMODE(found.st_mode):04o} and belongs to user {found.st_uid}"
