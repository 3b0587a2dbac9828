"""The meaning of a HUP: an order to reload, or the end of the terminal of this instance.

The kernel and the shell send the same signal when a terminal is closed as an operator sends for a
reload. The controlling terminal shows the difference: after a hang-up it cannot be opened.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

PATH = "/dev/tty"  # the controlling terminal of the process that opens it: tty(4)
HUNG_UP = (errno.ENXIO, errno.EIO)
ECHO_SECONDS = 1.0  # the shell and the kernel may both send a HUP for the one end of a terminal


class TerminalState(NamedTuple):
    """is_ours: there is a terminal, and it was open when a HUP came last."""

    is_ours: bool
    ignores_hangup: bool


class Terminal:
    """The controlling terminal that this process has been started with, if there is one."""

    def __init__(self, state: TerminalState | None = None) -> None:
        self.state = state or TerminalState(_error() == 0, False)
        self._closed_at = float("-inf")

    def ignore_hangup(self) -> None:
        """The process was started with SIGHUP ignored, as by nohup(1): it outlives the terminal."""
        self.state = TerminalState(self.state.is_ours, ignores_hangup=True)

    def meaning(self, now: float) -> str:
        """What the HUP that has come at `now` (monotonic) asks for: "reload", "stop" or nothing."""
        if self.state.is_ours and _error() in HUNG_UP:
            if not self.state.ignores_hangup:
                return "stop"
            self.state = TerminalState(is_ours=False, ignores_hangup=True)
            self._closed_at = now
        return "reload" if now - self._closed_at > ECHO_SECONDS else ""


def _error() -> int:
    # Why the controlling terminal cannot be opened; 0: it can.
    try:
        os.close(os.open(PATH, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or errno.EIO
    return 0
