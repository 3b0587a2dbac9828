"""The children of the arbiter: forking them, what they say, their ends.

Owns the account of living children (`by_pid`). What a child runs is given by the caller; what a
child says is posted, as a `ChildMessage`, to the arbiter's queue.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import secrets
import select
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gworker.config.settings import Settings
from gworker.ipc.channel import Channel, pair
from gworker.ipc.connection_ids import ConnectionIds
from gworker.ipc.fd_socket import Message
from gworker.ipc.scoreboard import Row, Scoreboard
from gworker.master.plan import Place
from gworker.master.slots import Process, Role, State
from gworker.system import child_processes

log = logging.getLogger("gworker")

# Seconds that a process has, past the deadline that it keeps itself, before it is killed.
KILL_MARGIN = 2.0

UNWANTED = "not needed any more"  # why a process is killed

# More than the channel of a dead process holds. Further ones come from a program that it has
# forked.
LAST_MESSAGES = 1024

# Seconds that a mold has for one fork. The arbiter waits meanwhile.
MOLD_SECONDS = 2.0

NO_PLACE: Place = ("", 0)  # of a child that fills no slot

# The messages of children, and the types of their fields. A child runs the user's code, so each
# message is checked.
MESSAGES: dict[str, dict[str, type]] = {
    "ready": {},
    "step": {"step": str},
    "position": {"line": str},
    "declared": {"workers": list},
    "forked": {"pid": int, "error": int},
    "failed": {"reason": str, "traceback": str},
    "replace": {"reason": str},
    "told": {"pid": int},
    "survey": {"staying": dict},
    "handed_over": {"staying": dict},
    "connections": {"request": int},
    "files": {"files": list, "patterns": list, "since": float},
    "changed": {"paths": list, "more": int},
}


class ChildMessage(NamedTuple):
    """One message of a child. The descriptors that came with it belong to the reader."""

    process: Process
    fields: Message
    descriptors: list[int]


class Kernel:
    """The system calls about children."""

    def fork(self, _child_end: Channel) -> int:
        """fork(2). `_child_end`: the end of the channel that is the child's."""
        return os.fork()

    def wait(self) -> tuple[int, int]:
        """(pid, wait status) of a dead child, (0, 0) if none is. Raises ChildProcessError."""
        return os.waitpid(-1, os.WNOHANG)

    def kill(self, pid: int, number: signal.Signals) -> None:
        """kill(2). Raises OSError."""
        os.kill(pid, number)

    def children(self) -> set[int]:
        return child_processes.children(os.getpid())


def flush_output() -> None:
    """Write out what is buffered, or a forked child would write it a second time."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # the parent may have closed it
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


def _is_valid(message: Message) -> bool:
    fields = MESSAGES.get(str(message.get("event")))
    return fields is not None and all(
        isinstance(message.get(name), kind) for name, kind in fields.items()
    )


class Children:
    """Every living child, and the making of new ones."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        post: Callable[[ChildMessage], None],
        leave_arbiter: Callable[[], None],
        signals: frozenset[signal.Signals],
        clock: Callable[[], float] = time.monotonic,
        kernel: Kernel | None = None,
    ) -> None:
        self.by_pid: dict[int, Process] = {}
        self._reaped: list[Process] = []  # those that were reaped, and are still to be forgotten
        self.scoreboard = Scoreboard()
        self.ids = ConnectionIds()
        self.instance = secrets.token_hex(5)  # the name of this instance among all machines
        self.selector = selector
        self._post = post
        self._leave_arbiter = leave_arbiter
        self._signals = signals
        self._clock = clock
        self._kernel = kernel or Kernel()

    def fork(
        self,
        role: Role,
        generation: int,
        settings: Settings,
        main: Callable[[Row, Channel], int],
        place: Place = NO_PLACE,
        seconds: float | None = None,
    ) -> Process:
        """Start a child that runs `main`. Raises OSError if the system refuses one.

        seconds: until it has to be ready; None: the boot timeout of `settings`.
        """

        def fork(ours: Channel, theirs: Channel, number: int) -> int:
            row = self.scoreboard.row(number)
            return self._fork(theirs, ours, lambda: main(row, theirs))

        return self._start(fork, role, generation, settings, place, seconds)

    def fork_from(
        self,
        mold: Process,
        settings: Settings,
        order: Mapping[str, Any],
        descriptors: Sequence[int],
    ) -> Process:
        """Let `mold` fork a worker process, by `order` (`Assignment.order`); `descriptors` go with
        it. Raises OSError if it does not."""

        def ask(_: Channel, theirs: Channel, number: int) -> int:
            message = {"do": "fork", "row": number, **order}
            if not mold.channel.send(message, [theirs.fileno(), *descriptors]):
                raise OSError(errno.EPIPE, "the mold does not read")
            return self._pid_from(mold)

        place = order["worker"], order["id"]
        return self._start(ask, Role.WORKER, order["generation"], settings, place, None)

    def _start(
        self,
        begin: Callable[[Channel, Channel, int], int],
        role: Role,
        generation: int,
        settings: Settings,
        place: Place,
        seconds: float | None,
    ) -> Process:
        # begin: makes the process, with both ends of its channel and the number of its row; returns
        # its pid.
        with contextlib.ExitStack() as undo:
            ours, theirs = pair()
            undo.callback(ours.close)
            with contextlib.closing(theirs):
                number = self.scoreboard.take()
                undo.callback(self.scoreboard.give_back, number)
                row = self.scoreboard.row(number)
                pid = begin(ours, theirs, number)
            undo.callback(self._kernel.kill, pid, signal.SIGKILL)
            now = self._clock()
            process = Process(pid, role, *place, generation, settings, now, ours, number, row)
            process.deadline = now + (settings.boot_timeout if seconds is None else seconds)
            self.adopt(process)  # without memory for it, the child could not be heard
            undo.pop_all()
        return process

    def _pid_from(self, mold: Process) -> int:
        # What the mold has forked. It waits for nothing but orders, so the arbiter waits for it;
        # one that hangs is killed. It runs the user's code: only what is our child counts.
        end = time.monotonic() + MOLD_SECONDS
        waiting = select.poll()
        waiting.register(mold.channel.fileno(), select.POLLIN)
        while waiting.poll(max(0.0, end - time.monotonic()) * 1000):
            message = self._receive(mold)
            if message is None and not self._is_heard(mold):
                raise OSError(errno.ESRCH, "the mold has ended")
            if message is not None and message.fields["event"] != "forked":
                self._post(message)
            elif message is not None:
                pid, number = message.fields["pid"], message.fields["error"]
                if number or pid in self.by_pid or pid not in self._kernel.children():
                    number = number or errno.ESRCH
                    raise OSError(number, f"the mold: {os.strerror(number)}")
                return int(pid)
        self.kill(mold, f"has forked nothing within {MOLD_SECONDS:g} s", KILL_MARGIN)
        raise OSError(errno.ETIMEDOUT, "the mold does not answer")

    def adopt(self, process: Process) -> None:
        """Listen to a child and reap it."""
        self.selector.register(
            process.channel, selectors.EVENT_READ, lambda _mask: self._on_readable(process)
        )
        self.by_pid[process.pid] = process

    def _fork(self, theirs: Channel, ours: Channel, main: Callable[[], int]) -> int:
        flush_output()
        # A signal that arrives between fork and the child's own handlers would go to the arbiter's
        # copy.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        try:
            pid = self._kernel.fork(theirs)
            if pid == 0:
                self._run_child(before, theirs, ours, main)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def _run_child(
        self,
        mask: set[int | signal.Signals],
        ours: Channel,
        arbiters: Channel,
        main: Callable[[], int],
    ) -> None:
        # Never returns: whatever happens, a child must not unwind into the arbiter's loop.
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

    # ---- what they say

    def _on_readable(self, process: Process) -> None:
        # Post a message. At the end of file there is nothing to do: the death is reaped.
        if (message := self._receive(process)) is not None:
            self._post(message)

    def drain(self, process: Process) -> Iterator[ChildMessage]:
        """What a dead child has said and is not read yet."""
        return itertools.islice(iter(lambda: self._receive(process), None), LAST_MESSAGES)

    def _receive(self, process: Process) -> ChildMessage | None:
        # The next message of a child; None if it has said nothing (more).
        if not self._is_heard(process):
            return None
        try:
            message, descriptors = process.channel.receive()
        except BlockingIOError:
            return None
        except ValueError:
            message, descriptors = {}, []
        if message is None:
            self.selector.unregister(process.channel)
            return None
        if not _is_valid(message):
            log.error(
                "%s (pid %d) has sent a message that makes no sense", process.label, process.pid
            )
            for descriptor in descriptors:
                os.close(descriptor)
            self.kill(process, "sent a message that makes no sense", KILL_MARGIN)
            return None
        return ChildMessage(process, message, descriptors)

    def _is_heard(self, process: Process) -> bool:
        # False once it has closed its end of the channel.
        return process.channel in self.selector.get_map()

    # ---- their ends

    def reap(self) -> list[tuple[Process, int]]:
        """Collect the dead: (process, wait status). Orphans that were given to us (as PID 1) are
        reaped too."""
        dead = []
        with contextlib.suppress(ChildProcessError):  # there is no child at all
            for pid, status in iter(self._kernel.wait, (0, 0)):
                if (process := self.by_pid.pop(pid, None)) is not None:
                    dead.append((process, status))
        self._reaped += [process for process, _ in dead]
        return dead

    def strangers(self) -> set[int] | None:
        """The living children of this process that it has not forked; None: it has no descriptor
        left to look."""
        try:
            return self._kernel.children() - self.by_pid.keys()
        except OSError:
            return None

    def send(self, pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it is just ending
            self._kernel.kill(pid, number)

    def forget(self, process: Process) -> None:
        """Free what the arbiter holds for a dead process, once its row and its last messages have
        been read."""
        if self._is_heard(process):
            self.selector.unregister(process.channel)
        process.channel.close()
        if process in self._reaped:
            self._reaped.remove(process)
        self.scoreboard.give_back(process.row_number)

    def kill(self, process: Process, reason: str, margin: float) -> None:
        """SIGKILL; again after `margin` seconds if it is still there (in uninterruptible sleep,
        say)."""
        process.kill_reason = process.kill_reason or reason
        if process.state is not State.KILLED:
            process.to(State.KILLED, None)
        process.deadline = self._clock() + margin
        self.signal(process, signal.SIGKILL)

    def signal(self, process: Process, number: signal.Signals) -> None:
        """Send a signal; a process that is dead already is reaped in the next turn."""
        # The number of one that was reaped may be another's by now.
        if self.by_pid.get(process.pid) is process:
            self.send(process.pid, number)
