"""Whether gworker's own code on the disk is still that which the arbiter runs.

Children import the half of it that the arbiter does not have. After an update of the package that
half would be of another version than what they inherit.
"""

from __future__ import annotations

import glob
import os
from contextlib import suppress
from zlib import crc32

from gworker import version


def code_version() -> int:
    """A checksum of the names and contents of all source files, and of the compiled core.

    Times would not do: a reproducible build gives each file the same one, and installing the same
    version again, or a copy, gives the same code another one.
    """
    found = 0
    package = glob.escape(os.path.dirname(version.__file__))
    paths = glob.glob(f"{package}/**/*.py", recursive=True)
    for path in sorted(paths + glob.glob(f"{package}/core/*.so")):
        found = crc32(path.encode(errors="surrogateescape"), found)
        with suppress(OSError), open(path, "rb") as file:  # it is just being replaced
            found = crc32(file.read(), found)
    return found
