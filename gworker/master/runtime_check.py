"""Once a minute the arbiter looks whether its runtime files are still there, and makes the missing
anew.

Something has cleaned up /tmp, or logind has removed the user's directory at the end of a session:
without its files the instance would serve on and no command could reach it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from gworker.errors import ConfigError
from gworker.master.control_server import ControlServer
from gworker.master.runtime_files import RuntimeFiles

log = logging.getLogger("gworker")

CHECK_SECONDS = 60.0


class RuntimeCheck:
    """The regular look at pid files and control socket."""

    def __init__(
        self,
        files: RuntimeFiles,
        control: ControlServer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._control = control
        self._next = clock() + CHECK_SECONDS
        self._errors: list[str] = []  # why the last attempt failed; it is logged once

    def tick(self, now: float) -> None:
        """Look if it is time to."""
        if now < self._next:
            return
        self._next = now + CHECK_SECONDS
        errors = []
        for restore in (self._restore_pid_file, self._restore_socket, self._restore_further):
            try:
                restore()
            except ConfigError as error:  # the others may be possible all the same
                errors.append(str(error))
        if errors and errors != self._errors:
            log.error(
                "runtime files are gone and cannot be made anew: %s",
                "; ".join(dict.fromkeys(errors)),
            )
        self._errors = errors

    def _restore_pid_file(self) -> None:
        _tell_pid_files(self._files.restore())

    def _restore_further(self) -> None:
        _tell_pid_files(self._files.restore_further())

    def _restore_socket(self) -> None:
        if self._control.restore(self._files.socket_path):
            log.warning("the control socket was gone; there is a new one at %s", self._control.path)

    def next_deadline(self) -> float:
        """When the next look is due (monotonic)."""
        return self._next


def _tell_pid_files(paths: list[str]) -> None:
    for path in paths:
        log.warning("the pid file was gone; there is a new one at %s", path)
