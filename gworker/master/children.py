"""Forking: how the arbiter makes a child, and what the child drops before it runs anything else.

The children that exist are kept in one dict by pid. What a child does is not known here: `Entry` is
given by who starts the arbiter.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from gworker.config.settings import Settings
from gworker.ipc.assignment import Assignment
from gworker.ipc.channel import Channel, pair
from gworker.ipc.connection_ids import ConnectionIds
from gworker.ipc.scoreboard import Row, Scoreboard
from gworker.master.plan import Place
from gworker.master.slots import PROBE_ID, Process, State
from gworker.system import child_processes

log = logging.getLogger("gworker")

KILL_MARGIN = 2.0
"""Seconds that a process has, past the deadline that it keeps itself, before it is killed."""

PROBE: Place = ("probe", PROBE_ID)
"""The place under which a probe child is kept; no slot has a negative id."""

WORDS: dict[str, dict[str, type]] = {
    "ready": {},
    "step": {"step": str},
    "position": {"line": str},
    "declared": {"workers": list},
    "failed": {"reason": str, "traceback": str},
    "replace": {"reason": str},
    "survey": {"staying": dict},
    "handed_over": {"staying": dict},
    "connections": {"request": int},
    "files": {"files": list, "patterns": list, "since": float},
}
"""What a child may say, and with what. Its code is not ours: what it sends is looked at before it
is used."""

Word = tuple[dict[str, Any], list[int]]
"""A message and the descriptors that came with it."""


def flush_output() -> None:
    """Write out what is buffered, or a forked child would write it a second time."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by who started us
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


class Entry(Protocol):
    """What runs in a child. Returns its exit code."""

    def worker(self, assignment: Assignment, settings: Settings, row: Row, channel: Channel) -> int:
        """Serve the place that `assignment` says."""

    def probe(self, settings: Settings, channel: Channel) -> int:
        """Load the target and tell the declarations."""

    def hooks(
        self, settings: Settings, channel: Channel, worker: str, calls: Sequence[tuple[str,
        Sequence[Any]]],
        user: str | None, group: str | None,
    ) -> int:  # fmt: skip
        """Make `calls` of callbacks of `worker`: names, and arguments after the Worker."""


def _is_word(message: dict[str, Any]) -> bool:
    fields = WORDS.get(str(message.get("event")))
    return fields is not None and all(
        isinstance(message.get(name), kind) for name, kind in fields.items()
    )


class Children:
    """Every living child, and the making of new ones."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        on_word: Callable[[Process], None],
        leave_arbiter: Callable[[], None],
        signals: frozenset[signal.Signals],
    ) -> None:
        self.by_pid: dict[int, Process] = {}
        self._reaped: list[Process] = []
        """Those that were reaped, and are still to be forgotten."""
        self._helpers: set[int] = set()
        """Pids of helpers, which are not in the books."""
        self.scoreboard = Scoreboard()
        self.ids = ConnectionIds()
        self._selector = selector
        self._on_word = on_word
        self._leave_arbiter = leave_arbiter
        self._signals = signals

    def fork(
        self,
        place: Place,
        generation: int,
        boot_timeout: float,
        main: Callable[[Row, Channel], int],
    ) -> Process:
        """Start a child that runs `main`. Raises OSError if the system refuses one."""
        ours, theirs = pair()
        try:
            number = self.scoreboard.take()
        except RuntimeError as error:
            ours.close()
            theirs.close()
            raise OSError(errno.EAGAIN, str(error)) from None
        row = self.scoreboard.row(number)
        try:
            pid = self._fork(theirs, ours, lambda: main(row, theirs))
        except OSError:
            self.scoreboard.give_back(number)
            raise
        now = time.monotonic()
        process = Process(
            pid, *place, generation, now, ours, number, row, deadline=now + boot_timeout
        )
        try:
            self._selector.register(
                ours, selectors.EVENT_READ, lambda _mask: self._on_word(process)
            )
        except OSError:  # no memory for it: without a way to hear it the child is of no use
            os.kill(pid, signal.SIGKILL)
            ours.close()
            self.scoreboard.give_back(number)
            raise
        self.by_pid[pid] = process
        return process

    def adopt(self, process: Process) -> None:
        """Hear and reap a child that was there before an exec."""
        self._selector.register(
            process.channel, selectors.EVENT_READ, lambda _mask: self._on_word(process)
        )
        self.by_pid[process.pid] = process

    def fork_helper(self, main: Callable[[Channel], int]) -> tuple[int, Channel]:
        """Start a child that is no process of the books: (pid, our end of its channel). Raises
        OSError.

        Its death is the end of file on the channel, and whoever wants it to end closes the channel.
        """
        ours, theirs = pair()
        pid = self._fork(theirs, ours, lambda: main(theirs))
        self._helpers.add(pid)
        return pid, ours

    def _fork(self, theirs: Channel, ours: Channel, main: Callable[[], int]) -> int:
        """The pid of a child that runs `main`; `theirs` is closed here. Raises OSError, and closes
        `ours` then."""
        flush_output()
        # A signal that arrives between fork and the child's own handlers would go to the arbiter's
        # copy.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        try:
            pid = os.fork()
            if pid == 0:
                self._run_child(before, theirs, ours, main)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        return pid

    def _run_child(
        self,
        mask: set[int | signal.Signals],
        ours: Channel,
        arbiters: Channel,
        main: Callable[[], int],
    ) -> None:
        """Never returns: whatever happens, a child must not unwind into the arbiter's loop."""
        code = 1
        try:
            self._leave_arbiter()
            arbiters.close()
            for process in (*self.by_pid.values(), *self._reaped):
                process.channel.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            code = main()
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            ours.send({"event": "failed", "reason": reason, "traceback": traceback.format_exc()})
        finally:
            os._exit(code)

    def reap(self) -> list[tuple[Process, int]]:
        """Collect the dead: (process, wait status). Orphans that were given to us (as PID 1) are
        reaped too."""
        dead = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            process = self.by_pid.pop(pid, None)
            self._helpers.discard(pid)
            if process is not None:
                dead.append((process, status))
        self._reaped += [process for process, _ in dead]
        return dead

    def strangers(self) -> set[int]:
        """The living children of this process that it has not forked."""
        return child_processes.children(os.getpid(), {*self.by_pid, *self._helpers})

    def send(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a stranger."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it is just ending
            os.kill(pid, number)

    def forget(self, process: Process) -> None:
        """Free what the arbiter holds for a dead process, once its row and its last words have been
        read."""
        self.silence(process)
        process.channel.close()
        if process in self._reaped:
            self._reaped.remove(process)
        self.scoreboard.give_back(process.row_number)

    def silence(self, process: Process) -> None:
        """Listen to a process no more: it has closed its end."""
        if not process.silent:
            process.silent = True
            self._selector.unregister(process.channel)

    def hear(self, process: Process) -> Word | None:
        """The next word of a child; None if it has said nothing (more)."""
        if process.silent:
            return None
        try:
            message, descriptors = process.channel.receive()
        except BlockingIOError:
            return None
        except ValueError:
            message, descriptors = {}, []
        if message is None:
            self.silence(process)
            return None
        if not _is_word(message):
            log.error("%s (pid %d) does not speak our language", process.label, process.pid)
            for descriptor in descriptors:
                os.close(descriptor)
            self.kill(process, "said something that makes no sense", KILL_MARGIN)
            return None
        return message, descriptors

    def kill(self, process: Process, reason: str, patience: float) -> None:
        """SIGKILL; again after `patience` seconds if it is still there (in uninterruptible sleep,
        say)."""
        process.reason = process.reason or reason
        if process.state is not State.KILLED:
            process.to(State.KILLED, None)
        process.deadline = time.monotonic() + patience
        self.signal(process, signal.SIGKILL)

    def signal(self, process: Process, number: signal.Signals) -> None:
        """Send a signal; a process that is dead already is reaped in the next turn."""
        if self.by_pid.get(process.pid) is not process:
            return  # reaped: the number may be another's by now
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            log.debug("%s (pid %d) is gone already", process.label, process.pid)
