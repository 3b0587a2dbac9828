"""Descriptors 0, 1 and 2: a shell (`2>&-`), a supervisor or cron may have closed them.

The next file, socket or epoll set would take their numbers, and receive log lines and the output of
handlers. So each entry into gworker fills them first.
"""

from __future__ import annotations

import os
import sys


def fill_standard() -> None:
    """Open /dev/null as each of 0, 1 and 2 that is closed, with the Python file for it."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # open(2) takes the lowest number that is free
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:  # Python found it closed
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115
