"""Memory files that no process can change any more: a process hands them to another one that need
not trust it.

A sealed file has the size that it has, and what is read from it twice is the same twice (fcntl(2),
F_ADD_SEALS).
"""

from __future__ import annotations

import fcntl
import os

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def create(name: str) -> int:
    """A new memory file, to be written and then sealed. Raises OSError."""
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def seal(descriptor: int) -> None:
    """No process can change it from now on. Raises OSError."""
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)


def size_of(descriptor: int, most: int) -> int:
    """The size of a sealed file. Raises ValueError for one that is not sealed, or larger than
    `most` bytes."""
    try:
        is_sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:  # it is no memory file
        is_sealed = False
    if not is_sealed:
        raise ValueError("it is not sealed")
    size = os.fstat(descriptor).st_size
    if size > most:
        raise ValueError(f"it is larger than {most} bytes")
    return size
