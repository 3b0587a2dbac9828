"""Whether gworker's own code on the disk is still that which the arbiter runs.

Children import the half of it that the arbiter does not have. After an update of the package that
half would be of another version than what they inherit.
"""

from __future__ import annotations

import glob
import os

from gworker import version


def code_version() -> dict[str, int]:
    """When each source file was changed, in nanoseconds since the epoch, by path.

    Empty while files are being replaced, or if the package is no directory.
    """
    package = glob.escape(os.path.dirname(version.__file__))
    paths = glob.glob(f"{package}/**/*.py", recursive=True)
    try:
        return {path: os.stat(path).st_mtime_ns for path in paths}
    except FileNotFoundError:
        return {}
