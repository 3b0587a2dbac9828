"""Which of the directories where instances may have their files are safe to look into."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from gworker.config.options import default_runtime_dirs


def believed(directories: Iterable[str]) -> list[str]:
    """Those of `directories` that exist, and of which the default ones are root's or our own.

    A default directory may be under /tmp, where another user can make it and put there what they
    like.
    """
    default = default_runtime_dirs()
    return [each for each in directories if each not in default or _is_ours(each)]


def _is_ours(directory: str) -> bool:
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid in (0, os.geteuid())
