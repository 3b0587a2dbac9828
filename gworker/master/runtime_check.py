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
        if now < self._next:
            return
        self._next = now + CHECK_SECONDS
        errors = []
        for what, restore in (
            ("pid file", self._files.restore),
            ("control socket", lambda: self._control.restore(self._files.socket_path)),
            ("pid file", self._files.restore_further),
        ):
            try:
                path = restore()
            except ConfigError as error:  # the others may be possible all the same
                errors.append(str(error))
            else:
                if path is not None:
                    log.warning("the %s was gone; there is a new one at %s", what, path)
        if errors and errors != self._errors:
            log.error(
                "runtime files are gone and cannot be made anew: %s",
                "; ".join(dict.fromkeys(errors)),
            )
        self._errors = errors

    def next_deadline(self) -> float:
        return self._next
