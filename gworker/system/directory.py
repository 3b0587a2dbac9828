"""The current directory by the name that the user has typed.

A deploy may switch a symbolic link, `current`, from one release to the next. getcwd(2) resolves the
link, and so names the old release forever. The shell keeps the typed name in $PWD; each load enters
the directory by that name again.
"""

from __future__ import annotations

import os
from contextlib import suppress


def current() -> str:
    """The name in $PWD if it is the current directory's, else the real name.

    Raises FileNotFoundError if the directory was removed.

    $PWD is believed as `pwd -L` does: POSIX.1-2024, pwd.
    """
    spelt = os.environ.get("PWD", "")
    if os.path.isabs(spelt) and os.path.normpath(spelt) == spelt:
        with suppress(OSError):
            if os.path.samestat(os.stat(spelt), os.stat(".")):
                return spelt
    return os.getcwd()


def absolute(path: str, base: str = "") -> str:
    """`path` from `base`, or from the current directory as it is spelt. Raises FileNotFoundError.

    A path that leaves the directory by `..` is resolved now, as the system finds it.
    """
    if os.path.isabs(path):
        return os.path.normpath(path)
    joined = os.path.join(base or current(), path)
    found = os.path.normpath(joined)
    if ".." in path.split(os.sep) and os.path.realpath(found) != os.path.realpath(joined):
        return os.path.realpath(joined)
    return found


def respelt(path: str) -> str:
    """A path that Python has made absolute with getcwd(2), with the directory as it is spelt."""
    try:
        real, spelt = os.getcwd(), current()
    except FileNotFoundError:
        return path
    if path == real:
        return spelt
    inside = path.startswith(os.path.join(real, ""))
    return os.path.join(spelt, path[len(real) :].lstrip(os.sep)) if inside else path


def enter(directory: str) -> None:
    """Make `directory` the current one, by this name. Raises OSError."""
    os.chdir(directory)
    os.environ["PWD"] = directory
