"""An arbiter in a world of invented pids and an invented clock: nothing forks, nothing sleeps.

Listeners and channels are real sockets. `run()` turns the arbiter until it would sleep.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import threading
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gworker.arbiter import Arbiter
from gworker.config.settings import Layer, resolve
from gworker.ipc.channel import Channel
from gworker.ipc.declaration import Declaration
from gworker.logs import setup
from gworker.master import control_commands, upgrade_state
from gworker.master.children import Children, Kernel
from gworker.master.runtime_files import RuntimeFiles
from gworker.master.slots import Process, Role
from gworker.master.systemd import Invocation
from gworker.master.watchdog import BEAT_SECONDS


def declaration(name: str, **fields: Any) -> Declaration:
    """A declaration as a probe sends it; without a socket unless `listen` says so."""
    known: dict[str, Any] = {
        "listen": None,
        "transport": None,
        "count": None,
        "user": None,
        "group": None,
        "reloadable": True,
        "reuse_port": False,
        "backlog": 16,
        "migration_obstacle": "handover=False",
    }
    return Declaration(name=name, **{**known, **fields})


class FakeKernel(Kernel):
    """Children that exist in the account only. Of the next forks `allowed` succeed, then `refused`
    fail."""

    def __init__(self) -> None:
        self.ends: dict[int, Channel] = {}
        """The children's ends of their channels, by pid."""
        self.signals: list[tuple[int, signal.Signals]] = []
        self.allowed = self.refused = 0
        self.dead: list[tuple[int, int]] = []
        self.deathless: set[int] = set()
        self._reaped: set[int] = set()
        self.strays: set[int] = set()
        self.has_descriptors = True
        """Pids of children that the arbiter has not forked."""
        self.sent: list[tuple[int, signal.Signals]] = []
        """What they were sent."""

    def fork(self, child_end: Channel) -> int:
        if self.refused and self.allowed:
            self.allowed -= 1
        elif self.refused:
            self.refused -= 1
            raise OSError(11, "Resource temporarily unavailable")
        pid = 1_000_000 + len(self.ends)
        self.ends[pid] = Channel(os.dup(child_end.fileno()))
        return pid

    def wait(self) -> tuple[int, int]:
        if not self.dead:
            return 0, 0
        self._reaped.add(self.dead[0][0])
        return self.dead.pop(0)

    def children(self) -> set[int]:
        if not self.has_descriptors:
            raise OSError(errno.EMFILE, "Too many open files")
        return set(self.strays)

    def kill(self, pid: int, number: signal.Signals) -> None:
        if pid not in self.ends:
            self.sent.append((pid, number))
            if number == signal.SIGKILL and pid not in self.deathless:
                self.strays.discard(pid)
            return
        assert pid not in self._reaped, "a signal to a pid that was reaped"
        self.signals.append((pid, number))
        if number == signal.SIGKILL and pid not in self.deathless:
            self.end(pid, 9)

    def end(self, pid: int, wait_status: int) -> None:
        """Process `pid` dies; its end of the channel closes."""
        self.dead.append((pid, wait_status))
        self.strays.discard(pid)
        self.ends[pid].close()


class Processes:
    """The processes that the arbiter has forked, with those that are dead."""

    def __init__(self, children: Children, kernel: FakeKernel) -> None:
        self.by_pid = children.by_pid
        self.ends = kernel.ends
        self.kernel = kernel
        self._known: dict[int, Process] = {}

    @property
    def born(self) -> list[Process]:
        self._known |= self.by_pid
        return [self._known[pid] for pid in sorted(self._known)]

    @property
    def signals(self) -> list[tuple[Process, signal.Signals]]:
        born = {each.pid: each for each in self.born}
        return [(born[pid], number) for pid, number in self.kernel.signals]

    def end(self, process: Process, wait_status: int) -> None:
        """`process` dies."""
        self.kernel.end(process.pid, wait_status)

    def make_deathless(self, process: Process) -> None:
        """SIGKILL does not help, as in uninterruptible sleep."""
        self.kernel.deathless.add(process.pid)


class FakeMold(threading.Thread):
    """Answers the orders of the arbiter, as the mold `process` would."""

    def __init__(self, kernel: FakeKernel, process: Process) -> None:
        super().__init__(daemon=True)
        self.orders: list[dict[str, Any]] = []
        self.error = 0
        """What the system says to the next forks; 0: they succeed."""
        self._kernel = kernel
        self._end = Channel(os.dup(kernel.ends[process.pid].fileno()))

    def run(self) -> None:
        waiting = select.poll()
        waiting.register(self._end.fileno(), select.POLLIN)
        with closing(self._end):
            while waiting.poll():
                order, descriptors = self._end.receive()
                if order is None:
                    return
                self.orders.append(order)
                pid = 0
                if not self.error:
                    with closing(Channel(descriptors.pop(0))) as end:
                        pid = self._kernel.fork(end)
                    self._kernel.strays.add(pid)
                for descriptor in descriptors:
                    os.close(descriptor)
                self._end.send({"event": "forked", "pid": pid, "error": self.error})


class FakeCall:
    """A request on the control socket."""

    def __init__(self, command: str = "reload", **arguments: Any) -> None:
        self.command, self.arguments = command, arguments
        self.replies: list[dict[str, Any]] = []
        self.exit: int | None = None
        self.extra: dict[str, Any] = {}
        self.gone = False

    def send(self, reply: dict[str, Any], fds: Any = ()) -> None:
        assert self.exit is None
        self.replies.append({**reply, "fds": list(fds)} if fds else reply)

    def finish(self, exit_code: int, **extra: Any) -> None:
        assert self.exit is None, "finished twice"
        self.exit, self.extra = exit_code, extra

    def fileno(self) -> None:
        """It has no connection that could outlive an exec."""

    @property
    def steps(self) -> list[str]:
        return [reply["step"] for reply in self.replies if "step" in reply]


class FakeLaunch:
    """The command that waits for the start."""

    def __init__(self) -> None:
        self.words: list[tuple[str, str]] = []

    def ready(self, message: str) -> None:
        self.words.append(("ready", message))

    def failed(self, message: str) -> None:
        self.words.append(("failed", message))

    def close_in_child(self) -> None:
        raise AssertionError("nothing forks here")


class World:
    """The arbiter, its children, its clock."""

    def __init__(
        self,
        directory: Path,
        invocation: Invocation | None = None,
        outputs: setup.Outputs = setup.Outputs(2),  # noqa: B008
        document: upgrade_state.Document | None = None,
        **settings: Any,
    ) -> None:
        self.now = 1000.0
        self._answered: set[Process] = set()
        self.unread: list[int] = []
        """Signals that have arrived and were not read yet."""
        self.launch = FakeLaunch()
        self.kernel = FakeKernel()
        self.rss: dict[int, int] = {}
        """What psutil says, by pid."""
        made = resolve(
            "app", Layer("test", {"runtime_dir": str(directory), "name": "test", **settings})
        )
        files = RuntimeFiles([str(directory)], "test")
        sampler = SimpleNamespace(
            sample=lambda *_: None,
            memory=lambda _: (0, 0),
            own=lambda: (0, 0.0),
            rss=lambda pid: self.rss.get(pid, 0),
        )
        self.arbiter = Arbiter(
            made,
            self.launch,
            files,
            None,  # type: ignore[arg-type]
            outputs,
            invocation or Invocation(),
            document,
            clock=lambda: self.now,
            kernel=self.kernel,
            sampler=sampler,  # type: ignore[arg-type]
            signal_pipe=SimpleNamespace(read=self._read_signals),  # type: ignore[arg-type]
        )
        self.instance = self.arbiter.instance
        self.fleet = self.arbiter.fleet
        self.children = Processes(self.fleet.children, self.kernel)

    # ---- what happens

    def run(self) -> None:
        """Turn until the arbiter would sleep."""
        for _ in range(1000):
            events = self.arbiter.selector.select(0)
            for key, mask in events:
                key.data(mask)
            before = self._figures()
            self.arbiter.turn()
            events += self._let_those_answer_that_hand_nothing_over()
            after = self._figures()
            if (
                not events
                and before == after
                and not self.arbiter.messages
                and not self.kernel.dead
            ):
                return
        raise AssertionError("the arbiter does not come to rest")

    def _figures(self) -> tuple[int, ...]:
        children = self.children
        return len(children.born), len(children.by_pid)

    def _let_those_answer_that_hand_nothing_over(self) -> list[Any]:
        """As they do at once when they are told to retire. For the others a test says it
        (`hand_over`)."""
        asked = [
            each
            for each in self.retiring()
            if each not in self._answered and not each.compatibility and each not in self.hanging
        ]
        self._answered.update(asked)
        for process in asked:
            self.children.ends[process.pid].send({"event": "handed_over", "staying": {}})
        return asked

    def sleep(self, seconds: float) -> None:
        """Time passes, in steps no longer than the arbiter sleeps."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.5)
            for process in self.children.by_pid.values():
                if (
                    process not in self.hanging
                    and self.now - process.row[0] / 1e9 > BEAT_SECONDS - 0.25
                ):
                    process.row[0] = int(self.now * 1e9)
            self.run()

    hanging: frozenset[Process] = frozenset()

    def _read_signals(self) -> list[int]:
        numbers, self.unread = self.unread, []
        return numbers

    def signal(self, number: signal.Signals) -> None:
        """A signal arrives."""
        self.arbiter.messages.append(lambda: self.arbiter.handle_signal(number))
        self.run()

    def say(self, process: Process, **word: Any) -> None:
        """`process` says something."""
        assert self.children.ends[process.pid].send(word)
        self.run()

    def die(self, process: Process, wait_status: int = 0) -> None:
        """`process` dies."""
        self.children.end(process, wait_status)
        self.run()

    def fail(
        self, process: Process, reason: str = "it does not work", traceback: str = "Traceback…\n"
    ) -> None:
        """`process` says that it failed, and exits 1."""
        self.children.ends[process.pid].send(
            {"event": "failed", "reason": reason, "traceback": traceback}
        )
        self.die(process, 1 << 8)

    def declare(self, *declarations: Declaration) -> None:
        """The probe tells its declarations and exits."""
        probe = self.probe
        self.say(probe, event="declared", workers=[asdict(each) for each in declarations])
        self.die(probe)

    def ready(self, *processes: Process) -> None:
        """They are ready."""
        for process in processes:
            process.row[0] = int(self.now * 1e9)
            self.say(process, event="ready")

    def hand_over(self, *processes: Process, **staying: int) -> None:
        """They have handed over what they could; so many connections stay for these reasons."""
        for process in processes:
            self.say(process, event="handed_over", staying=staying)

    def ask(self, command: str, **arguments: Any) -> FakeCall:
        """A command comes over the control socket."""
        call = FakeCall(command, **arguments)
        control_commands.answer(self.instance, call)  # type: ignore[arg-type]
        self.run()
        return call

    def reload(self) -> FakeCall:
        """`gworker reload`."""
        call = FakeCall()
        self.instance.reload(call)  # type: ignore[arg-type]
        self.run()
        return call

    def start(self, *declarations: Declaration) -> None:
        """Begin, declare, and let all processes be ready."""
        self.begin()
        self.declare(*declarations)
        self.ready(*self.booting())
        assert self.instance.state == "running"

    def begin(self) -> None:
        """What Arbiter.run does before its loop."""
        self.instance.begin()
        self.run()

    def finish_reload(self) -> None:
        """Let every process that boots be ready and every one that retires leave, until nothing
        changes."""
        while self.booting() or self.retiring():
            for process in self.booting():
                self.ready(process)
            for process in self.retiring():
                self.die(process)

    # ---- what there is

    @property
    def probe(self) -> Process:
        (probe,) = (
            each
            for each in self.children.by_pid.values()
            if each.role is Role.PROBE and not each.has_declared
        )
        return probe

    def living(self) -> list[Process]:
        return [each for each in self.children.by_pid.values() if each.role is Role.WORKER]

    def helpers(self) -> list[Process]:
        """Children that call hooks."""
        return [each for each in self.children.by_pid.values() if each.role is Role.CALLBACKS]

    def one(self, name: str) -> Process:
        """The process of the Worker `name`, which has one."""
        (process,) = (each for each in self.living() if each.worker == name)
        return process

    def killed(self) -> list[Process]:
        """The processes that got SIGKILL."""
        signals = self.children.signals
        return [process for process, number in signals if number == signal.SIGKILL]

    def watchers(self) -> list[Process]:
        """All that were ever started."""
        return [each for each in self.children.born if each.role is Role.WATCHER]

    def booting(self) -> list[Process]:
        return [each for each in self.living() if each.state.value == "booting"]

    def retiring(self) -> list[Process]:
        return [each for each in self.living() if each.state.value == "retiring"]

    def serving(self) -> dict[str, int]:
        """Label and generation of what is ready."""
        return {
            each.label: each.generation for each in self.living() if each.state.value == "ready"
        }

    def told(self, process: Process) -> list[dict[str, Any]]:
        """What the arbiter has told a process."""
        heard = []
        while True:
            try:
                message, _ = self.children.ends[process.pid].receive()
            except (BlockingIOError, OSError):
                return heard
            if message is None:
                return heard
            heard.append(message)

    def close(self) -> None:
        self.fleet.listeners.keep_only(set())
        self.arbiter.selector.close()
        for process in self.children.born:
            process.channel.close()
        for end in self.kernel.ends.values():
            end.close()
