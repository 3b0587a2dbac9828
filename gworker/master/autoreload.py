"""`--reload` on the arbiter's side: keeps the watcher alive, sends it the files to watch, and
reloads when one changes.

The watcher (file_watcher.py) is a child that fills no slot. One that has died is replaced, with the
usual back-off.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

from setproctitle import setproctitle

from gworker.ipc.channel import Channel, chunks
from gworker.ipc.fd_socket import Message
from gworker.master.fleet import Fleet
from gworker.master.slots import Process, Role, Slot
from gworker.system import privileges

log = logging.getLogger("gworker")

# What is watched at most. The names come from processes that run other people's code.
MAX_FILES, MAX_PATTERNS = 50_000, 200


class Reloader:
    """The watcher and what it watches. Without --reload it does nothing.

    on_change: called when a file has changed.
    """

    def __init__(self, fleet: Fleet, on_change: Callable[[], None]) -> None:
        self._fleet = fleet
        self._on_change = on_change
        self._slot = Slot("watcher", 0)
        # What is watched.
        self._files: set[str] = set()
        self._file_messages: list[Message] = []  # all of them, as the watcher gets them
        # Where a module that was missing may appear.
        self._patterns: list[str] = []
        self._patterns_since = 0.0
        self._unsent: list[Message] = []

    # ---- the watcher's life

    def tick(self, now: float) -> None:
        if self._is_wanted and self._slot.is_due(now):
            self._start(now)
        self._flush()

    def next_deadline(self) -> float:
        """When a dead watcher is replaced (monotonic); infinity if none is dead."""
        is_dead = self._is_wanted and self._slot.current is None
        return self._slot.retry_at if is_dead else float("inf")

    @property
    def _is_wanted(self) -> bool:
        return self._fleet.settings.reload and not self._fleet.is_stopping

    def _start(self, now: float) -> None:
        try:
            watcher = self._fleet.spawner.helper(Role.WATCHER, self._fleet.settings, self._watch)
        except OSError as error:
            self._back_off(None, now, f"fork: {error.strerror}")
            return
        self._slot.add(watcher)
        watcher.ready_at, watcher.deadline = now, None  # it watches until it is killed
        log.debug("the watcher has started (pid %d)", watcher.pid)
        self._unsent = list(self._file_messages)
        self._send_patterns()

    def _watch(self, channel: Channel) -> int:
        # In the watcher's process. It runs as the user of the worker processes.
        from gworker.master import file_watcher

        settings = self._fleet.settings
        setproctitle(f"gworker: watcher [{settings.name}]")
        try:
            privileges.drop(settings.user, settings.group)
            return file_watcher.run(channel, settings.reload_extra)
        except Exception:  # a message to the arbiter may be lost: it has not read all of ours
            log.exception("the watcher of --reload failed")
            return 1

    def on_watcher_end(self, watcher: Process, now: float) -> None:
        self._slot.remove(watcher)
        if self._is_wanted:
            self._back_off(watcher, now, "it has ended")

    def _back_off(self, watcher: Process | None, now: float, reason: str) -> None:
        self._slot.back_off(watcher, now, reason)
        delay = self._slot.retry_at - now
        log.warning("the watcher of --reload: %s; another one in %.1f s", reason, delay)

    # ---- what it watches

    def loaded(self, files: Sequence[object], patterns: Sequence[object], since: float) -> None:
        """A child has imported `files`, from time `since` on (seconds since the epoch); what it
        missed may appear where `patterns` match."""
        if not self._fleet.settings.reload:
            return
        found = [path for path in files if isinstance(path, str) and path not in self._files]
        fresh = found[: max(0, MAX_FILES - len(self._files))]
        self._files.update(fresh)
        messages: list[Message] = [{"files": each, "since": since} for each in chunks(fresh)]
        self._file_messages += messages
        self._unsent += messages
        self._flush()
        more = [each for each in patterns if isinstance(each, str) and each not in self._patterns]
        if more:
            self._patterns = (self._patterns + more)[:MAX_PATTERNS]
            self._patterns_since = since
            self._send_patterns()

    def succeeded(self) -> None:
        """A load has succeeded: nothing is missing any more."""
        if self._patterns:
            self._patterns = []
            self._send_patterns()

    def _send_patterns(self) -> None:
        self._unsent.append({"patterns": self._patterns, "since": self._patterns_since})
        self._flush()

    def _flush(self) -> None:
        watcher = self._slot.current
        while self._unsent and watcher is not None and watcher.channel.send(self._unsent[0]):
            self._unsent.pop(0)

    # ---- what follows

    def changed(self, paths: Sequence[object], more: int) -> None:
        """Files have changed: `paths`, and `more` that are not named."""
        if self._fleet.is_stopping:
            return
        here = os.path.join(self._fleet.settings.directory, "")
        names = [str(each).removeprefix(here) for each in paths]
        log.info("changed: %s%s", ", ".join(names), f" and {more} more" if more else "")
        self._on_change()
