"""Replacing the arbiter's own code in place: `gworker upgrade`, SIGUSR2.

    trial     a child runs the new code up to the point where it would take over, and ends
    exec      only if that went well: execve(2) keeps the pid, the children, and the descriptors
              that are marked for it; what the arbiter knows passes in a memfd (upgrade_state.py)
    reload    the new arbiter replaces the worker processes, so that they run the new code too

A failure before the exec leaves the old arbiter serving. From the exec until the new arbiter
has its handlers in place, signals are blocked, and wait.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback as tracebacks
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import NoReturn

from gworker.config.settings import Settings
from gworker.ipc.channel import Channel
from gworker.logs.setup import Outputs
from gworker.master import upgrade_state
from gworker.master.control_connection import Call
from gworker.master.control_server import ControlServer
from gworker.master.fleet import Fleet
from gworker.master.rollout_queue import RolloutQueue
from gworker.master.runtime_files import RuntimeFiles
from gworker.master.slots import Role
from gworker.master.systemd import Invocation
from gworker.master.upgrade_state import Document
from gworker.version import __version__

log = logging.getLogger("gworker")

# Environment variables: the descriptor of the document; and that this is only a trial.
DOCUMENT, TRIAL = "_GWORKER_UPGRADE", "_GWORKER_TRIAL"

MAX_OUTPUT = 8192  # bytes of what a failed trial has printed that are shown


@dataclass(frozen=True, slots=True)
class UpgradeResources:
    """What stays open over the exec, besides what the fleet has."""

    files: RuntimeFiles
    control: ControlServer
    outputs: Outputs
    invocation: Invocation
    # Those that the arbiter handles: they wait during the exec.
    signals: Collection[signal.Signals]
    cwd: str  # where the command line was given: relative paths in it mean that


class Stage(Enum):
    NONE = auto()
    TRYING = auto()  # the trial runs, or waits for the current rollout
    PROVEN = auto()  # the trial succeeded: the exec comes when it loses nothing


class Upgrade:
    """An upgrade, from the request to the exec. `calls` get every step.

    state: what the arbiter knows (upgrade_state.py). has_news: something has arrived that an exec
    would lose.
    """

    def __init__(
        self,
        fleet: Fleet,
        rollouts: RolloutQueue,
        resources: UpgradeResources,
        state: Callable[[], Document],
        has_news: Callable[[], bool],
    ) -> None:
        self.calls: list[Call] = []
        self._fleet = fleet
        self._rollouts = rollouts
        self._resources = resources
        self._state = state
        self._has_news = has_news
        self._stage = Stage.NONE
        self._output = -1  # what the trial child prints

    def request(self, call: Call | None = None) -> None:
        """Begin, or follow the one that goes on."""
        if call is not None:
            self.calls.append(call)
        if self._fleet.is_stopping:
            self._failed("the instance is stopping")
        elif self._stage is Stage.NONE:
            self._try_when_idle()

    def _try_when_idle(self) -> None:
        self._stage = Stage.TRYING
        self._rollouts.when_idle(self._try)

    def abandon(self, why: str) -> None:
        if self._stage is not Stage.NONE:
            self._failed(why)

    # ---- the trial

    def _try(self) -> None:
        if self._stage is not Stage.TRYING:
            return
        self._step("trying the new code")
        try:
            self._spawn_trial()
        except OSError as error:
            self._failed(f"fork: {error.strerror}")
        except Exception as error:  # an unforeseen fault must not end the service
            self._failed(f"{type(error).__name__}: {error}", tracebacks.format_exc())

    def _spawn_trial(self) -> None:
        with ExitStack() as undo:
            output = os.memfd_create("gworker-trial")
            undo.callback(os.close, output)
            document = _written(self._document())
            try:
                run = partial(self._run_trial, document, output)
                self._fleet.spawner.helper(Role.TRIAL, self._fleet.settings, run)
            finally:
                os.close(document)
            undo.pop_all()
        self._output = output

    def _run_trial(self, document: int, output: int, _channel: Channel) -> int:
        for standard in (1, 2):
            os.dup2(output, standard)
        try:
            self._execute(document, {TRIAL: "1"})
        except OSError as error:
            os.write(2, f"{error.filename}: {error.strerror}\n".encode(errors="backslashreplace"))
            return 1

    def on_trial_end(self, status: int, reason: str) -> None:
        printed = _tail(self._output)
        os.close(self._output)
        if self._stage is not Stage.TRYING:
            return
        if status == 0:
            self._stage = Stage.PROVEN
        else:
            *before, last = printed.strip().splitlines() or [reason]
            self._failed(
                f"the new code cannot take over: {last.removeprefix('gworker: error: ')}",
                "\n".join(before),
            )

    # ---- the exec

    def proceed(self, is_settled: bool) -> None:
        """To be called when no message waits, which would be lost. is_settled: no helper child
        runs."""
        if self._stage is not Stage.PROVEN:
            return
        if self._rollouts.current is not None:
            self._try_when_idle()  # after it the result of the trial may not hold any more
        elif is_settled:
            self._proceed()

    def _proceed(self) -> None:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._resources.signals)
        try:
            if not self._has_news():
                self._replace()
        except OSError as error:
            self._failed(f"exec: {error.strerror}")
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}", tracebacks.format_exc())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _replace(self) -> None:
        self._step(f"gworker {__version__} makes way for the new code")
        document = self._document()
        with ExitStack() as undo:
            # By a descriptor: it may have no path any more.
            before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, before)
            undo.callback(os.fchdir, before)
            memory = _written(document)
            undo.callback(os.close, memory)
            for descriptor in (*document["kept"], *upgrade_state.descriptors(document)):
                undo.callback(os.set_inheritable, descriptor, descriptor <= 2)
                os.set_inheritable(descriptor, True)
            self._execute(memory, self._resources.invocation.environment(os.getpid()))

    def _execute(self, document: int, environment: dict[str, str]) -> NoReturn:
        # Become the new code. Raises OSError.
        os.set_inheritable(document, True)
        with suppress(OSError):  # where it was removed, absolute names still mean what they did
            os.chdir(self._resources.cwd)
        environment = {
            **os.environ,
            "PWD": self._resources.cwd,
            DOCUMENT: str(document),
            **environment,
        }
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)

    def _document(self) -> Document:
        own = self._resources
        calls = [
            {"fd": fd, "command": each.command}
            for each in self.calls
            if (fd := each.fileno()) is not None
        ]
        pid_files = own.files.kept()
        locks = [descriptor for _, descriptor in pid_files]
        named = [*locks, own.control.fileno(), own.outputs.log, own.outputs.access or -1]
        return {
            **self._state(),
            "calls": calls,
            "pid_files": pid_files,
            "control": own.control.fileno(),
            "outputs": [own.outputs.log, own.outputs.access],
            "kept": [
                *[fd for fd in named if fd >= 0],
                *[each["fd"] for each in calls],
                *own.invocation.sockets.descriptors(),
            ],
        }

    def _step(self, text: str) -> None:
        log.info("upgrade: %s", text)
        for call in self.calls:
            call.send({"step": text})

    def _failed(self, reason: str, traceback: str = "") -> None:
        log.error("upgrade refused: %s%s", reason, "\n" + traceback if traceback else "")
        calls, self.calls = self.calls, []
        self._stage = Stage.NONE
        for call in calls:
            call.finish(1, error=reason, traceback=traceback + "\n" if traceback else "")

    # ---- afterwards, in the new code

    def resume(self, document: Document) -> list[Call]:
        """Take over what the arbiter that wrote `document` has left open; return the calls that
        wait for the upgrade."""
        for descriptor in [*document["kept"], *upgrade_state.descriptors(document)]:
            os.set_inheritable(descriptor, descriptor <= 2)
        control = self._resources.control
        if document["control"] >= 0:
            control.adopt(document["control"])
        self.calls = [control.adopt_call(each["fd"], each["command"]) for each in document["calls"]]
        self._step(f"gworker {__version__} has taken over from gworker {document['version']}")
        calls, self.calls = self.calls, []
        return calls


def _tail(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, MAX_OUTPUT, max(0, size - MAX_OUTPUT)).decode(errors="replace")


def _written(document: Document) -> int:
    memory = os.memfd_create("gworker-upgrade")
    with open(os.dup(memory), "w") as file:
        json.dump(document, file)
    return memory


def is_pending() -> bool:
    """True if this process was an arbiter before an exec, and takes over from it."""
    return DOCUMENT in os.environ


def inherited(settings: Settings) -> Document | None:
    """The document of the arbiter that this process was before an exec; None at a start.

    A trial ends here: by SystemExit, or with the ConfigError that says why the new code cannot take
    over.
    """
    descriptor, trial = os.environ.pop(DOCUMENT, None), os.environ.pop(TRIAL, None)
    if descriptor is None:
        return None
    with open(int(descriptor), "rb") as file:
        file.seek(0)
        document: Document = json.load(file)
    if trial is not None:
        upgrade_state.check_in_trial(document, settings)
        raise SystemExit(0)
    return document
