"""Replacing the arbiter's own code in place: `gworker upgrade`, SIGUSR2.

    trial     a child runs the new code up to the point where it would take over, and ends
    exec      only if that went well: execve(2) keeps the pid, the children, and the descriptors
              that are marked for it; what the arbiter knows passes in a memfd (snapshot.py)
    reload    the new arbiter replaces the worker processes, so that they run the new code too

Whatever fails before the exec leaves the old arbiter serving. From the exec until the new arbiter has
its handlers in place, signals are blocked, and wait.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from gworker import snapshot
from gworker.control import Call
from gworker.errors import ConfigError
from gworker.version import __version__

if TYPE_CHECKING:
    from gworker.arbiter import Arbiter
    from gworker.channel import Channel
    from gworker.scoreboard import Row
    from gworker.slots import Process

log = logging.getLogger("gworker")

DOCUMENT, TRIAL = "_GWORKER_UPGRADE", "_GWORKER_TRIAL"
"""Environment variables: the descriptor of the document; and that this is only a trial."""

MAX_OUTPUT = 8192
"""Bytes of what a failed trial has printed that are shown."""

Document = dict[str, Any]


class Upgrade:
    """The wish for new code, from the request to the exec. `calls` are told every step."""

    def __init__(self, arbiter: Arbiter, signals: Iterable[signal.Signals], cwd: str) -> None:
        self.calls: list[Call] = []
        self._arbiter = arbiter
        self._signals = frozenset(signals)
        self._cwd = cwd
        """Where the command line was given: relative paths in it mean that."""
        self._wanted = False
        self._trial: Process | None = None
        self._output = -1
        self._passed = False

    def request(self, call: Call | None = None) -> None:
        """Begin, or follow the one that goes on."""
        if call is not None:
            self.calls.append(call)
        if self._arbiter.is_stopping:
            self._failed(f"the instance is {self._arbiter.state}")
        elif not self._wanted:
            self._wanted = True
            self._arbiter.scaling.when_settled(self._try)

    def abandon(self, why: str) -> None:
        """The instance is stopping."""
        if self._wanted:
            self._failed(why)

    # ---- the trial

    def _try(self) -> None:
        if not self._wanted:
            return
        self._step("trying the new code")
        self._output = os.memfd_create("gworker-trial")
        document = _written(self._document())
        try:
            self._trial = self._arbiter.fleet.spawn_helper(
                "upgrade", partial(self._run_trial, document), self._trial_ended
            )
        except OSError as error:
            self._failed(f"fork: {error.strerror}")
        finally:
            os.close(document)

    def _run_trial(self, document: int, _row: Row, _channel: Channel) -> int:
        """In a child: become the new code."""
        for standard in (1, 2):
            os.dup2(self._output, standard)
        _execute(document, self._cwd, trial=True)

    def _trial_ended(self, reason: str, status: int) -> None:
        """The trial child is dead."""
        self._trial = None
        size = os.fstat(self._output).st_size
        printed = os.pread(self._output, MAX_OUTPUT, max(0, size - MAX_OUTPUT)).decode(errors="replace")
        os.close(self._output)
        if status == 0:
            self._passed = True
            self._arbiter.scaling.when_settled(self._replace)
        elif self._wanted:
            lines = printed.strip().splitlines()
            self._failed(f"the new code cannot take over: {lines[-1] if lines else reason}", "\n".join(lines[:-1]))

    # ---- the exec

    def _replace(self) -> None:
        if not self._wanted or not self._passed:
            return
        self._step(f"gworker {__version__} makes way for the new code")
        document = self._document()
        before = os.getcwd()
        memory = _written(document)
        kept = [memory, *document["kept"], *snapshot.descriptors(document)]
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        try:
            for descriptor in kept:
                os.set_inheritable(descriptor, True)
            _execute(memory, self._cwd, trial=False)
        except OSError as error:
            for descriptor in kept:
                os.set_inheritable(descriptor, descriptor <= 2)
            os.chdir(before)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(memory)
            self._failed(f"exec: {error.strerror}")

    def _document(self) -> Document:
        arbiter = self._arbiter
        calls = [{"fd": fd, "command": each.command} for each in self.calls if (fd := each.fileno()) is not None]
        files, control, log_fd = arbiter.kept()
        return {
            **snapshot.take(arbiter),
            "cwd": self._cwd,
            "calls": calls,
            "pid_files": files,
            "control": control,
            "log": log_fd,
            "kept": [*[fd for fd in (*files, control, log_fd) if fd >= 0], *[each["fd"] for each in calls]],
        }

    def _step(self, text: str) -> None:
        log.info("upgrade: %s", text)
        for call in self.calls:
            call.send({"step": text})

    def _failed(self, reason: str, traceback: str = "") -> None:
        log.error("upgrade refused: %s%s", reason, "\n" + traceback if traceback else "")
        calls, self.calls = self.calls, []
        self._wanted = self._passed = False
        for call in calls:
            call.finish(1, error=reason, traceback=traceback + "\n" if traceback else "")


def _written(document: Document) -> int:
    memory = os.memfd_create("gworker-upgrade")
    with open(os.dup(memory), "w") as file:
        json.dump(document, file)
    return memory


def _execute(memory: int, cwd: str, trial: bool) -> NoReturn:
    """Become the new code. Raises OSError."""
    os.set_inheritable(memory, True)
    environment = {**os.environ, DOCUMENT: str(memory)}
    if trial:
        environment[TRIAL] = "1"
    os.chdir(cwd)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def inherited() -> Document | None:
    """What the arbiter that was here before has left; None if this process begins afresh.

    In a trial it is only looked at: returns never, the exit code is the result.
    """
    descriptor = os.environ.pop(DOCUMENT, None)
    trial = os.environ.pop(TRIAL, None)
    if descriptor is None:
        return None
    with open(int(descriptor), "rb") as file:
        file.seek(0)
        document: Document = json.load(file)
    if trial:
        document["trial"] = True
    return document


def finish_trial(document: Document) -> None:
    """In a trial: everything has been loaded and the settings make sense. Leaves by SystemExit."""
    if document.get("trial"):
        try:
            snapshot.check(document)
        except ConfigError as error:
            sys.exit(str(error))
        sys.exit(0)
