"""The watcher of `--reload`: a process of its own that sees files change and says so.

It looks at the state of each file a few times a second. That is slower than inotify(7) by a
fraction of a second, but it sees what inotify does not: changes on network file systems and in the
directories that containers share with their host. A thousand files take a few milliseconds.

A change is told when it is over: editors write twice, or put a new file in place of the old one, so
a file has to keep still for a moment. The process knows no sockets but its line to the arbiter, and
ends with it.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import logging
import os
import select
import time
from collections.abc import Callable, Iterable

from gworker.ipc.channel import Channel

log = logging.getLogger("gworker")

LOOK_SECONDS = 0.2
"""Between two looks, or ten times as long as a look takes: the watcher shall not eat a core."""

SETTLE_SECONDS, SETTLE_MOST = 0.1, 2.0
"""How long files have to keep still after a change, and how long at most that is waited for."""

SETTLE_LOOK = 0.04

MAX_NAMES = 20
"""Changed files that are named."""

State = tuple[int, int, int] | None
"""(mtime in ns, size, inode) of a file; None: there is none."""


def state_of(path: str) -> State:
    """What a file looks like. One that is put in place of another is another: its inode tells."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Watch:
    """Files and patterns, and what they looked like. Reads no clock."""

    def __init__(
        self, patterns: Iterable[str] = (), look_at: Callable[[str], State] = state_of
    ) -> None:
        self._look_at = look_at
        self._always = tuple(patterns)
        self._patterns: tuple[str, ...] = ()
        self._seen: dict[str, State] = {}
        self._files: set[str] = set()
        self._differing: dict[str, State] = {}
        self._first_differed = self._last_differed = 0.0
        self._see_matches(float("inf"))

    def add(self, files: Iterable[str], since: float) -> None:
        """Watch `files` as well. What was changed after `since` (seconds since the epoch) has
        changed."""
        for path in files:
            self._files.add(path)
            self._see(path, since)

    def set_patterns(self, patterns: Iterable[str], since: float) -> None:
        """Watch what matches these as well, instead of those that were set before; `since` as in
        `add`."""
        self._patterns = tuple(patterns)
        self._see_matches(since)
        paths = self._files | self._matches()
        self._seen = {path: state for path, state in self._seen.items() if path in paths}

    def _see(self, path: str, since: float) -> None:
        if path not in self._seen:
            state = self._look_at(path)
            is_late = state is not None and state[0] > since * 1e9
            self._seen[path] = None if is_late else state

    def _see_matches(self, since: float) -> None:
        for path in self._matches():
            self._see(path, since)

    def _matches(self) -> set[str]:
        patterns = (*self._always, *self._patterns)
        return {
            path
            for pattern in patterns
            for path in glob.iglob(pattern, recursive=True, include_hidden=True)
        }

    @property
    def is_settling(self) -> bool:
        """True while something differs and does not keep still yet."""
        return bool(self._differing)

    def look(self, now: float) -> dict[str, tuple[State, State]]:
        """What has changed and keeps still: path -> (before, after). `now`: monotonic seconds."""
        now_seen = {
            path: self._look_at(path) for path in self._files | self._matches() | set(self._seen)
        }
        differing = {
            path: state for path, state in now_seen.items() if self._seen.get(path) != state
        }
        if differing != self._differing:
            self._first_differed = self._first_differed if self._differing else now
            self._last_differed = now
            self._differing = differing
        still = (
            now - self._last_differed >= SETTLE_SECONDS or now - self._first_differed >= SETTLE_MOST
        )
        if not differing or not still:
            return {}
        changed = {path: (self._seen.get(path), state) for path, state in differing.items()}
        self._seen.update(differing)
        self._differing = {}
        return changed


def forget_bytecode(changed: dict[str, tuple[State, State]]) -> None:
    """Remove the bytecode that Python would take for current: it compares whole seconds and the
    size only.

    A file that was changed before it was watched has no state before, but may have been imported by
    then.
    """
    for path, (before, after) in changed.items():
        if after is None or not path.endswith(".py"):
            continue
        if before is None or (before[0] // 10**9, before[1]) == (after[0] // 10**9, after[1]):
            with contextlib.suppress(OSError, NotImplementedError):
                os.unlink(importlib.util.cache_from_source(path))


def run(channel: Channel, patterns: Iterable[str]) -> int:
    """Watch until the arbiter's end of `channel` closes; return the exit code.

    The arbiter sends {"files", "since"} and {"patterns", "since"}, and gets the event "changed":
    {"paths", "more": how many are not named}.
    """
    watch = Watch(patterns)
    pause = LOOK_SECONDS
    while True:
        select.select([channel], [], [], pause)
        if not _listen(channel, watch):
            return 0
        began = time.monotonic()
        changed = watch.look(began)
        if changed:
            forget_bytecode(changed)
            names = sorted(changed)
            more = max(0, len(names) - MAX_NAMES)
            channel.send({"event": "changed", "paths": names[:MAX_NAMES], "more": more})
        pause = SETTLE_LOOK if watch.is_settling else LOOK_SECONDS
        pause = max(pause, 10 * (time.monotonic() - began))


def _listen(channel: Channel, watch: Watch) -> bool:
    """Hear what the arbiter says; False when it is gone."""
    while True:
        try:
            message, _ = channel.receive()
        except BlockingIOError:
            return True
        if message is None:
            return False
        if "patterns" in message:
            watch.set_patterns(message["patterns"], message["since"])
        else:
            watch.add(message["files"], message["since"])
