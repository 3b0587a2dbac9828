"""The watcher of `--reload`: a process of its own that reports changes of files.

watchfiles (inotify(7) on Linux) wakes it when something happens in the directories of the watched
files; then it compares the state of each file. inotify does not see the changes that other machines
make on a network file system: with WATCHFILES_FORCE_POLLING=1 in the environment
the states are compared all the time. (The library's own polling compares whole seconds only: it
misses the second of two quick edits.)

A change is reported when it is over: editors write twice, or put a new file in place of the old
one, so the files have to keep still for a moment. The process has no sockets but its channel to the
arbiter, and ends when that closes.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import logging
import os
import time
from collections.abc import Collection, Iterable, Iterator, Sized

from gworker.ipc.channel import Channel

log = logging.getLogger("gworker")

# How long files have to keep still after a change, and how long at most that is waited for.
SETTLE_MS, SETTLE_MOST_MS = 100, 1000

LOOK_MS = 300  # between two looks at the channel, and at the files when polling

# The environment variable that watchfiles defines for polling.
POLLING = "WATCHFILES_FORCE_POLLING"

MAX_NAMES = 20  # changed files that are named

State = tuple[int, int, int] | None  # (mtime in ns, size, inode) of a file; None: there is none


def state_of(path: str) -> State:
    """The state of a file. The inode differs if another file was put in its place."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _changed_at(path: str) -> float:
    # Seconds since the epoch. The change of the inode counts: the time of modification is often set
    # to what it was elsewhere.
    try:
        return os.stat(path).st_ctime
    except (OSError, ValueError):
        return 0.0


class Watch:
    """Files and patterns, and what they looked like. Reads no clock."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._always = tuple(patterns)
        self._patterns: tuple[str, ...] = ()
        self._seen: dict[str, State] = {}
        self._files: set[str] = set()
        self._see(self._matches(), float("inf"))

    def add(self, files: Collection[str], since: float) -> None:
        """Watch `files` as well. What was changed after `since` (seconds since the epoch) has
        changed."""
        self._files.update(files)
        self._see(files, since)

    def set_patterns(self, patterns: Iterable[str], since: float) -> None:
        """Watch what matches these as well, instead of those that were set before; `since` as in
        `add`."""
        self._patterns = tuple(patterns)
        self._see(self._matches(), since)
        paths = self._files | self._matches()
        self._seen = {path: state for path, state in self._seen.items() if path in paths}

    def _see(self, paths: Collection[str], since: float) -> None:
        for path in paths:
            if path not in self._seen:
                self._seen[path] = None if _changed_at(path) > since else state_of(path)

    def _matches(self) -> set[str]:
        return {path for pattern in (*self._always, *self._patterns) for path in _glob(pattern)}

    def changes(self) -> dict[str, tuple[State, State]]:
        """What has changed since the last call: path -> (before, after)."""
        paths = self._files | self._matches() | set(self._seen)
        now = {path: state_of(path) for path in paths}
        found = {
            path: (self._seen.get(path), state)
            for path, state in now.items()
            if self._seen.get(path) != state
        }
        self._seen |= now
        return found

    def directories(self) -> dict[str, int]:
        """The directories in which a change shows, with their inodes: one that was put in place of
        another is another."""
        parents = {os.path.dirname(path) for path in self._files}
        for pattern in (*self._always, *self._patterns):
            parents |= {os.path.dirname(pattern), *_glob(os.path.dirname(pattern))}
        existing = {_existing(os.path.abspath(parent)) for parent in parents}
        links = {link for path in existing for link in _links(path)}
        states = {path: state_of(path) for path in existing | links}
        return {path: state[2] for path, state in states.items() if state is not None}


def _glob(pattern: str) -> Iterator[str]:
    return glob.iglob(pattern, recursive=True, include_hidden=True)


def _existing(directory: str) -> str:
    # `directory`, or the next one above it that exists: what is missing will appear there.
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return directory


def _links(path: str) -> Iterator[str]:
    while path != (above := os.path.dirname(path)):
        if os.path.islink(path):
            yield above
        path = above


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
            with contextlib.suppress(OSError):
                os.unlink(importlib.util.cache_from_source(path))


def run(channel: Channel, patterns: Iterable[str]) -> int:
    """Watch until the arbiter's end of `channel` closes; return the exit code.

    The arbiter sends {"files", "since"} and {"patterns", "since"}, and gets the event "changed":
    {"paths", "more": how many are not named}.
    """
    watched = Watch(patterns)
    polls = os.environ.get(POLLING, "") not in ("", "false", "disable", "disabled")
    while _receive(channel, watched) is not None:
        try:
            _follow(channel, watched, polls)
        except FileNotFoundError:  # a directory that has just gone
            continue
        # inotify(7) has no instance or watch left, or a path is no UTF-8.
        except (OSError, RuntimeError, ValueError) as error:
            log.warning("the watcher of --reload compares files from now on: %s", error)
            polls = True
    return 0


def _follow(channel: Channel, watched: Watch, polls: bool) -> None:
    # Report changes, until the directories change or the arbiter is gone. Raises OSError,
    # RuntimeError and ValueError.
    directories = watched.directories()
    is_stale = True
    for events in _poll() if polls else _notify(directories):
        is_stale = is_stale or bool(events)
        if is_stale and (changed := _settled(watched)):
            forget_bytecode(changed)
            names = sorted(changed)
            more = max(0, len(names) - MAX_NAMES)
            channel.send({"event": "changed", "paths": names[:MAX_NAMES], "more": more})
        received = _receive(channel, watched)
        if received is None or ((is_stale or received) and watched.directories() != directories):
            return
        is_stale = bool(received)


def _settled(watched: Watch) -> dict[str, tuple[State, State]]:
    # What has changed, once the files keep still: a look may come in the middle of an edit.
    found = more = watched.changes()
    end = time.monotonic() + SETTLE_MOST_MS / 1000
    while more and time.monotonic() < end:
        time.sleep(SETTLE_MS / 1000)
        more = watched.changes()
        found |= {path: (found.get(path, now)[0], now[1]) for path, now in more.items()}
    return {path: (before, after) for path, (before, after) in found.items() if before != after}


def _notify(directories: Iterable[str]) -> Iterator[Sized]:
    # The events in `directories` when they are over; an empty set after each `LOOK_MS` without one.
    # A tenth of a second, in which an edit may come: first the files are looked at.
    from watchfiles import watch

    return watch(
        *directories,
        watch_filter=None,
        debounce=SETTLE_MOST_MS,
        step=SETTLE_MS,
        rust_timeout=LOOK_MS,
        yield_on_timeout=True,
        force_polling=False,
        recursive=False,
        ignore_permission_denied=True,
    )


def _poll() -> Iterator[Sized]:
    # Something may have happened. The pauses grow with the time that the caller needs.
    seconds = 0.0
    while True:
        time.sleep(max(LOOK_MS / 1000, 10 * seconds))
        began = time.monotonic()
        yield ("something",)
        seconds = time.monotonic() - began


def _receive(channel: Channel, watched: Watch) -> int | None:
    # Read the messages of the arbiter; return their number, None: it is gone.
    count = 0
    while True:
        try:
            message, _ = channel.receive()
        except BlockingIOError:
            return count
        if message is None:
            return None
        count += 1
        if "patterns" in message:
            watched.set_patterns(message["patterns"], message["since"])
        else:
            watched.add(message["files"], message["since"])
