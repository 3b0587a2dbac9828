"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling")."""

from __future__ import annotations

import io
import os
import stat
from typing import Any

_LAYERS = 3  # of a file in objects that have it as `file`: those of Django, of tempfile


def _gives_its_bytes(filelike: Any) -> bool:
    for _ in range(_LAYERS):
        if isinstance(filelike, io.BufferedReader | io.BufferedRandom):
            return isinstance(filelike.raw, io.FileIO)
        if isinstance(filelike, io.FileIO):
            return True
        filelike = getattr(filelike, "file", None)
    return False


class FileWrapper:
    """A file as an iterable of its pieces. An application that returns the wrapper itself has the
    kernel send the file (sendfile(2)), from the position where it stands."""

    def __init__(self, filelike: Any, block_size: int = 65536) -> None:
        self.filelike = filelike
        self.block_size = block_size

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.block_size)
        if not data:
            raise StopIteration
        return data

    def close(self) -> None:
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()

    def extent(self) -> tuple[int, int, int] | None:
        """Descriptor, position and bytes left of a regular file; None for anything else, as for a
        GzipFile: its descriptor gives other bytes than it."""
        if not _gives_its_bytes(self.filelike):
            return None
        try:
            descriptor = self.filelike.fileno()
            facts = os.fstat(descriptor)
            position = self.filelike.tell()
        except (AttributeError, OSError, ValueError):
            return None
        if not stat.S_ISREG(facts.st_mode) or type(position) is not int:
            return None
        return descriptor, position, max(0, facts.st_size - position)
