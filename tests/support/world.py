"""An arbiter in a world of invented pids and an invented clock: nothing forks, nothing sleeps.

Listeners and channels are real sockets. `run()` turns the arbiter until it would sleep.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gworker import arbiter as arbiter_module
from gworker.arbiter import Arbiter
from gworker.config.settings import Layer, resolve
from gworker.ipc.channel import Channel, pair
from gworker.ipc.declaration import Declaration
from gworker.ipc.scoreboard import Row
from gworker.logs import setup
from gworker.master import (
    autoreload,
    child_messages,
    control_commands,
    fleet,
    health,
    master_callbacks,
    rollout,
    status,
    systemd,
)
from gworker.master import children as children_module
from gworker.master.children import Children
from gworker.master.plan import Place
from gworker.master.runtime_files import RuntimeFiles
from gworker.master.slots import Process
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


class FakeChildren(Children):
    """Children that exist in the books only. Of the next forks `allowed` succeed, then `refused`
    fail."""

    def __init__(self, like: Children) -> None:
        vars(self).update(vars(like))
        self.born: list[Process] = []
        self.ends: dict[int, Channel] = {}
        self.signals: list[tuple[Process, signal.Signals]] = []
        self.allowed = self.refused = 0
        self._dead: list[tuple[int, int]] = []
        self._deathless: set[int] = set()
        self.helpers: list[Channel] = []
        """Their ends of the channels of helpers that were started."""
        self.strays: set[int] = set()
        """Pids of children that the arbiter has not forked."""
        self.sent: list[tuple[int, signal.Signals]] = []
        """What they were sent."""

    def fork_helper(self, main: Callable[[Channel], int]) -> tuple[int, Channel]:
        if self.refused:
            self.refused -= 1
            raise OSError(11, "Resource temporarily unavailable")
        ours, theirs = pair()
        self.helpers.append(theirs)
        return 2_000_000 + len(self.helpers), ours

    def fork(
        self,
        place: Place,
        generation: int,
        boot_timeout: float,
        main: Callable[[Row, Channel], int],
    ) -> Process:
        if self.refused and self.allowed:
            self.allowed -= 1
        elif self.refused:
            self.refused -= 1
            raise OSError(11, "Resource temporarily unavailable")
        number = self.scoreboard.take()
        ours, theirs = pair()
        now = children_module.time.monotonic()
        pid = 1_000_000 + len(self.born)
        process = Process(pid, *place, generation, now, ours, number, self.scoreboard.row(number))
        process.deadline = now + boot_timeout
        self.by_pid[pid], self.ends[pid] = process, theirs
        self._selector.register(ours, 1, lambda _mask: self._on_word(process))
        self.born.append(process)
        return process

    def reap(self) -> list[tuple[Process, int]]:
        dead, self._dead = self._dead, []
        return [(self.by_pid.pop(pid), status) for pid, status in dead if pid in self.by_pid]

    def strangers(self) -> set[int]:
        return set(self.strays)

    def send(self, pid: int, number: signal.Signals) -> None:
        self.sent.append((pid, number))
        if number == signal.SIGKILL:
            self.strays.discard(pid)

    def signal(self, process: Process, number: signal.Signals) -> None:
        assert self.by_pid.get(process.pid) is process, "a signal to a pid that was reaped"
        self.signals.append((process, number))
        if number == signal.SIGKILL and process.pid not in self._deathless:
            self.end(process, 9)

    def end(self, process: Process, wait_status: int) -> None:
        """`process` dies; its end of the channel closes."""
        self._dead.append((process.pid, wait_status))
        self.ends[process.pid].close()

    def make_deathless(self, process: Process) -> None:
        """SIGKILL does not help, as in uninterruptible sleep."""
        self._deathless.add(process.pid)


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
    """Who waits for the start."""

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
        monkeypatch: pytest.MonkeyPatch,
        directory: Path,
        invocation: Invocation | None = None,
        outputs: setup.Outputs = setup.Outputs(2),  # noqa: B008
        **settings: Any,
    ) -> None:
        self.now = 1000.0
        clock = SimpleNamespace(monotonic=lambda: self.now, time=self._time_of_day)
        self.wall: Iterator[float] | None = None
        """What the time of day is each time that somebody asks; None: as much later as `now` is."""
        for module in (
            arbiter_module, children_module, fleet, health, master_callbacks, autoreload, control_commands, rollout, status, systemd, child_messages
        ):  # fmt: skip
            monkeypatch.setattr(module, "time", clock)
        self.unread: list[int] = []
        """Signals that have arrived and were not read yet."""
        monkeypatch.setattr(
            arbiter_module, "Wakeup", lambda: SimpleNamespace(read=self._read_signals)
        )
        self.launch = FakeLaunch()
        self.rss: dict[int, int] = {}
        """What psutil says, by pid."""
        made = resolve(
            "app", Layer("test", {"runtime_dir": str(directory), "name": "test", **settings})
        )
        files = RuntimeFiles([str(directory)], "test")
        self.arbiter = Arbiter(
            made, self.launch, files, None, outputs, invocation, clock=clock.monotonic
        )  # type: ignore[arg-type]
        self.arbiter.sampler = SimpleNamespace(  # type: ignore[assignment]
            take=lambda *_: None,
            memory=lambda _: (0, 0),
            own=lambda: (0, 0.0),
            rss=lambda pid: self.rss.get(pid, 0),
        )
        self.fleet = self.arbiter.fleet
        self.children = FakeChildren(self.fleet.children)
        self.fleet.children = self.children

    # ---- what happens

    def run(self) -> None:
        """Turn until the arbiter would sleep."""
        for _ in range(1000):
            events = self.arbiter._selector.select(0)
            for key, mask in events:
                key.data(mask)
            before = len(self.children.born), len(self.children.by_pid), len(self.arbiter._messages)
            self.arbiter.turn()
            events += self._let_those_answer_who_hand_nothing_over()
            after = len(self.children.born), len(self.children.by_pid), len(self.arbiter._messages)
            if (
                not events
                and before == after
                and not self.arbiter._messages
                and not self.children._dead
            ):
                return
        raise AssertionError("the arbiter does not come to rest")

    def _let_those_answer_who_hand_nothing_over(self) -> list[Any]:
        """As they do at once when they are told to retire. For the others a test says it
        (`hand_over`)."""
        told = [
            each
            for each in self.retiring()
            if each.departing and not each.kin and each not in self.hanging
        ]
        for process in told:
            self.children.ends[process.pid].send({"event": "handed_over", "staying": {}})
        return told

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

    def _time_of_day(self) -> float:
        return 1e9 + self.now if self.wall is None else next(self.wall)

    def _read_signals(self) -> list[int]:
        numbers, self.unread = self.unread, []
        return numbers

    def signal(self, number: signal.Signals) -> None:
        """A signal arrives."""
        self.arbiter._messages.append(lambda: self.arbiter._signalled(number))
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
        self.say(probe, event="declared", workers=[each.to_dict() for each in declarations])
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

    def reload(self) -> FakeCall:
        """`gworker reload`."""
        call = FakeCall()
        self.arbiter.reload(call)  # type: ignore[arg-type]
        self.run()
        return call

    def start(self, *declarations: Declaration) -> None:
        """Begin, declare, and let everybody be ready."""
        self.begin()
        self.declare(*declarations)
        self.ready(*self.booting())
        assert self.arbiter.state == "running"

    def begin(self) -> None:
        """What Arbiter.run does before its loop."""
        self.arbiter.begin([])
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
            each for each in self.children.by_pid.values() if each.is_probe and not each.declared
        )
        return probe

    def living(self) -> list[Process]:
        return [each for each in self.children.by_pid.values() if not each.is_helper]

    def helpers(self) -> list[Process]:
        """Children that call hooks."""
        return [each for each in self.children.by_pid.values() if each.is_hooks]

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
        self.arbiter._selector.close()
        for process in self.children.born:
            process.channel.close()
            self.children.ends[process.pid].close()
