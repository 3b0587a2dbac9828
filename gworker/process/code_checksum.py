"""gworker's own code as it lies on the disk: whether it is still that which the arbiter runs.

Children import the half of it that the arbiter does not have. After an update of the package that
half would be of another version than what they inherit, and nothing could be expected of the
mixture.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from zlib import crc32

from gworker import version

Code = Mapping[str, int]


def code() -> Code:
    """A checksum of each source file, by path; empty if the package is no directory that can be
    read."""
    found = {}
    for directory, _, files in os.walk(os.path.dirname(version.__file__)):
        for name in files:
            if name.endswith(".py"):
                path = os.path.join(directory, name)
                try:
                    with open(path, "rb") as file:
                        found[path] = crc32(file.read())
                except OSError:
                    found[path] = 0
    return found
