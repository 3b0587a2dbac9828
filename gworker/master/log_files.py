"""The log files of a running instance: opened anew at USR1; the default one is turned over here."""

from __future__ import annotations

import logging
import os

from gworker.logs import setup
from gworker.logs.setup import Outputs
from gworker.master.fleet import Fleet
from gworker.master.slots import Role

log = logging.getLogger("gworker")

MAX_SIZE = 100_000_000  # bytes from which on a log that the user has not named is turned over

RETRY_SECONDS = 60.0  # until the next try if that was not possible


class LogFiles:
    def __init__(self, fleet: Fleet, outputs: Outputs) -> None:
        self._fleet = fleet
        self._outputs = outputs
        self._not_before = 0.0

    def reopen(self) -> bool:
        """Open them anew and give every process the new descriptors (logrotate(8)). False: none
        is."""
        try:
            pairs = self._outputs.reopened(self._fleet.settings)
        except OSError as error:
            log.error("cannot reopen %s: %s", error.filename, error.strerror)
            return False
        message = {"do": "reopen", "targets": [old for old, _ in pairs]}
        processes = self._fleet.children.by_pid.values()
        for process in (each for each in processes if each.role is not Role.WATCHER):
            process.channel.send(message, [new for _, new in pairs])
        setup.replace(pairs)
        log.info("log files reopened")
        return True

    def turn_over(self, now: float) -> None:
        """Keep the default log small: NAME.log becomes NAME.log.1, in place of an older one.

        The user has not named this file, so no logrotate(8) knows of it. Other processes may write
        to the old file for a moment more, and nothing of that is lost.
        """
        settings, descriptor = self._fleet.settings, self._outputs.log
        if settings.log_file is None or not settings.has_default_log or now < self._not_before:
            return
        if os.fstat(descriptor).st_size < MAX_SIZE:
            return
        try:
            if _is_same_file(settings.log_file, descriptor):
                os.replace(settings.log_file, settings.log_file + ".1")
        except OSError as error:
            log.error("cannot turn over %s: %s", settings.log_file, error.strerror)
        else:
            if self.reopen():
                log.info("the log was turned over: what was before is in %s.1", settings.log_file)
                return
        self._not_before = now + RETRY_SECONDS


def _is_same_file(path: str, descriptor: int) -> bool:
    # False if it is gone, or an instance of the same name has turned it over already.
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
