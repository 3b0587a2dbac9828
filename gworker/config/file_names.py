"""File names of an instance, and where the log of a daemon is if --log-file names none.

Names of instances are often a TARGET: `app:handlers`, `path/to/file.py`.
"""

from __future__ import annotations

import os
import re
import stat
import zlib

from gworker.errors import ConfigError

ROOTS = "/var/log/gworker"

DIRECTORY_MODE = 0o750  # logs hold the addresses of clients and what they asked for

MAX_SLUG = 64


def slug(name: str) -> str:
    """`name` itself where possible; `slug(slug(x)) == slug(x)`.

    It never begins like an option or a hidden file.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("-.")
    if safe == name and 0 < len(safe) <= MAX_SLUG:
        return name
    checksum = zlib.crc32(name.encode(errors="surrogateescape"))
    return f"{safe[: MAX_SLUG - 9] or 'gworker'}-{checksum:08x}"


def broker_path(runtime_dir: str, name: str) -> str:
    """Where the local broker of the instance `name` listens."""
    return os.path.join(runtime_dir, slug(name) + ".broker")


def default_log(name: str) -> str:
    """The log of the daemon `name`. Raises ConfigError if this user has no place for it."""
    return os.path.join(_directory(), slug(name) + ".log")


def _directory() -> str:
    # Set by systemd (systemd.exec(5), LogsDirectory=); several are separated by colons.
    if given := os.environ.get("LOGS_DIRECTORY", "").partition(":")[0]:
        return os.path.abspath(given)
    if os.geteuid() == 0:
        return ROOTS
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # to be ignored (XDG Base Directory Specification)
        state = os.path.expanduser("~/.local/state")
    if not os.path.isabs(state):
        raise ConfigError(
            "there is no place for the log, as this user has no home; give a --log-file"
        )
    return os.path.join(state, "gworker")


def prepare(path: str) -> None:
    """Make the directory of the log at `path`, if it is missing. Raises ConfigError.

    Root refuses a directory in which another user could replace the log by a link to any file (as
    in CVE-2016-1247).
    """
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, mode=DIRECTORY_MODE, exist_ok=True)
        found = os.stat(directory)
    except OSError as error:
        raise ConfigError(
            f"cannot write the log {path}: {error.filename}: {error.strerror}; give a --log-file"
        ) from None
    if directory == ROOTS and (found.st_uid != 0 or found.st_mode & stat.S_IWOTH):
        by = f"user {found.st_uid}" if found.st_uid else "every user"
        raise ConfigError(
            f"cannot write the log {path}: {by} could replace it in {directory}; give a --log-file"
        )
