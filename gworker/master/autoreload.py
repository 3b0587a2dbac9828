"""`--reload` on the arbiter's side: keeps the watcher alive, tells it what to watch, and reloads
when it speaks.

The watcher (watching.py) is no worker process and fills no slot. Its channel is all that is known
of it: it ends when we close it, and its own end of file says that it is dead; then there is another
one, with the usual back-off.
"""

from __future__ import annotations

import logging
import os
import selectors
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from setproctitle import setproctitle

from gworker.ipc.channel import Channel, chunks
from gworker.master.slots import PROVEN_SECONDS, backoff
from gworker.system import privileges

if TYPE_CHECKING:
    from gworker.arbiter import Arbiter

log = logging.getLogger("gworker")

MAX_FILES, MAX_PATTERNS = 50_000, 200
"""What is watched at most. The names come from processes that run other people's code."""


class Reloader:
    """The watcher and what it watches. Implements `attendants.Attendant`; without --reload it does
    nothing."""

    def __init__(
        self,
        arbiter: Arbiter,
        selector: selectors.BaseSelector,
        queue: Callable[[Callable[[], None]], None],
    ) -> None:
        settings = arbiter.settings
        self.is_on = settings.reload
        self._arbiter = arbiter
        self._selector = selector
        self._queue = queue
        self._extra = settings.reload_extra
        self._channel: Channel | None = None
        self._files: dict[str, float] = {}
        """What is watched, and since when it has been in use (seconds since the epoch)."""
        self._patterns: list[str] = []
        self._patterns_since = 0.0
        """Where what was missing in a load that failed may appear."""
        self._unsent: list[dict[str, Any]] = []
        self._began = self._retry_at = 0.0
        self._failures = 0

    # ---- the watcher's life

    def attend(self, now: float) -> None:
        """Start the watcher if there is none; end it with the instance."""
        if not self.is_on:
            return
        if self._arbiter.is_stopping:
            self._hang_up()
        elif self._channel is None and now >= self._retry_at:
            self._start(now)
        self._flush()

    def next_deadline(self) -> float:
        """When a dead watcher is replaced (monotonic); infinity if none is dead."""
        waits = self.is_on and self._channel is None and not self._arbiter.is_stopping
        return self._retry_at if waits else float("inf")

    def close_in_child(self) -> None:
        """In a forked process: or the watcher would not see the arbiter's end."""
        if self._channel is not None:
            self._channel.close()

    def _start(self, now: float) -> None:
        try:
            pid, self._channel = self._arbiter.fleet.fork_helper(self._watch)
        except OSError as error:
            self._failed(now, f"fork: {error.strerror}")
            return
        self._began = now
        self._selector.register(self._channel, selectors.EVENT_READ, self._on_word)
        log.debug("the watcher has started (pid %d)", pid)
        self._unsent = []
        self._tell(self._files)
        self._tell_patterns()

    def _watch(self, channel: Channel) -> int:
        """What the watcher runs: as the user whose files it looks at."""
        from gworker.master import file_watcher

        settings = self._arbiter.settings
        setproctitle(f"gworker: watcher [{settings.name}]")
        try:
            privileges.become(settings.user, settings.group)
            return file_watcher.run(channel, self._extra)
        except (
            Exception
        ):  # told here: what it could say on the channel is lost if it has not read all of ours
            log.exception("the watcher of --reload failed")
            return 1

    def _on_word(self, _mask: int) -> None:
        assert self._channel is not None
        try:
            message, descriptors = self._channel.receive()
        except BlockingIOError:
            return
        except ValueError:
            message, descriptors = None, []
        for descriptor in descriptors:
            os.close(descriptor)
        if message is None:
            self._hang_up()
            self._failed(time.monotonic(), "it has ended")
        elif "changed" in message:
            self._queue(lambda: self._changed(message))

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._selector.unregister(self._channel)
            self._channel.close()
            self._channel = None

    def _failed(self, now: float, reason: str) -> None:
        self._failures = 0 if now - self._began >= PROVEN_SECONDS else self._failures + 1
        delay = backoff(self._failures)
        self._retry_at = now + delay
        log.warning("the watcher of --reload: %s; another one in %.1f s", reason, delay)

    # ---- what it watches

    def loaded(self, files: Sequence[object], patterns: Sequence[object], since: float) -> None:
        """A child uses `files`, and failed for want of what may yet match `patterns`."""
        if not self.is_on:
            return
        found = [path for path in files if isinstance(path, str) and path not in self._files]
        fresh = dict.fromkeys(found[: max(0, MAX_FILES - len(self._files))], since)
        self._files |= fresh
        self._tell(fresh)
        more = [each for each in patterns if isinstance(each, str) and each not in self._patterns]
        if more:
            self._patterns = (self._patterns + more)[:MAX_PATTERNS]
            self._patterns_since = since
            self._tell_patterns()

    def succeeded(self) -> None:
        """A load has succeeded: nothing is missing any more."""
        if self._patterns:
            self._patterns = []
            self._tell_patterns()

    def _tell(self, files: dict[str, float]) -> None:
        by_time: dict[float, list[str]] = {}
        for path, since in files.items():
            by_time.setdefault(since, []).append(path)
        for since, paths in by_time.items():
            self._unsent += [{"files": chunk, "since": since} for chunk in chunks(paths)]
        self._flush()

    def _tell_patterns(self) -> None:
        self._unsent.append({"patterns": self._patterns, "since": self._patterns_since})
        self._flush()

    def _flush(self) -> None:
        """Send what the watcher has not been told; the rest when it has read that."""
        while self._unsent and self._channel is not None and self._channel.send(self._unsent[0]):
            self._unsent.pop(0)

    # ---- what follows

    def _changed(self, message: dict[str, Any]) -> None:
        if self._arbiter.is_stopping:
            return
        here = os.path.join(self._arbiter.settings.directory, "")
        names = [each.removeprefix(here) for each in message["changed"]]
        more = f" and {message['more']} more" if message["more"] else ""
        log.info("changed: %s%s", ", ".join(names), more)
        self._arbiter.reload()
