"""Each role of child runs what it is for, and keeps only the listeners that it serves. Real
forks."""

from __future__ import annotations

import os
import selectors
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import declaration

from gworker.config.settings import Layer, resolve
from gworker.master.children import Children
from gworker.master.listeners import Listeners
from gworker.master.plan import Plan, make_plan
from gworker.master.slots import Process, Role
from gworker.master.spawner import Spawner

SETTINGS = resolve("app", Layer("test", {}))


class Codes:
    """An Entry: a child's exit code says what it was told to run."""

    def worker(self, assignment: Any, settings: Any, row: Any, channel: Any) -> int:
        is_open = [Path(f"/proc/self/fd/{fd}").exists() for fd in assignment.listeners]
        sockets = [each for each in os.listdir("/proc/self/fd") if is_listener(each)]
        reaches = os.path.exists(assignment.broker)
        return (60 if reaches else 10) + len(sockets) if all(is_open) else 1

    def probe(self, settings: Any, channel: Any) -> int:
        return 20 + sum(map(is_listener, os.listdir("/proc/self/fd")))

    def broker(self, listeners: Any, settings: Any, row: Any, channel: Any) -> int:
        found = sum(map(is_listener, os.listdir("/proc/self/fd")))
        return 50 + found if len(listeners) == 1 else 1

    def hooks(
        self, settings: Any, channel: Any, worker: str, calls: Any, user: Any, group: Any
    ) -> int:
        return 30 + len(calls) if (worker, user) == ("a", "me") else 1


class Scene:
    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.children = Children(self.selector, lambda _: None, lambda: None, frozenset())
        self.listeners = Listeners()
        self.spawner = Spawner(self.children, self.listeners, Codes())
        self.plan: Plan = make_plan(
            [
                declaration("a", listen="tcp://127.0.0.1:0", count=2, user="me"),
                declaration("b", listen="tcp://127.0.0.1:0"),
            ],
            None,
            Plan(),
        )
        self.listeners.open_for(self.plan)
        inodes.update(
            os.readlink(f"/proc/self/fd/{fd}")
            for each in self.listeners.held.values()
            for fd in each.descriptors
        )

    def code(self, process: Process) -> int:
        _, status = os.waitpid(process.pid, 0)
        return os.waitstatus_to_exitcode(status)


inodes: set[str] = set()


def is_listener(descriptor: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") in inodes
    except FileNotFoundError:
        return False


@pytest.fixture
def scene() -> Iterator[Scene]:
    one = Scene()
    yield one
    for process in one.children.by_pid.values():
        process.channel.close()
    one.listeners.close()
    one.selector.close()


def test_a_worker_process_keeps_its_own_listener_alone(scene: Scene) -> None:
    process = scene.spawner.worker(("a", 1), scene.plan, 3, SETTINGS)
    assert scene.code(process) == 11
    assert (process.role, process.label, process.generation) == (Role.WORKER, "a#1", 3)
    assert (process.count, process.key) == (2, scene.plan.key(("a", 1)))
    assert process.deadline == process.started + SETTINGS.boot_timeout


def test_the_broker_keeps_its_own_alone_and_worker_processes_are_told_where_it_is(
    scene: Scene, tmp_path: Path
) -> None:
    scene.listeners.broker.open(str(tmp_path / "app.broker"))
    (listener,) = scene.listeners.broker.listeners
    inodes.add(os.readlink(f"/proc/self/fd/{listener.fileno()}"))
    process = scene.spawner.broker(SETTINGS)
    assert scene.code(process) == 51
    assert (process.role, process.label) == (Role.BROKER, "broker")
    worker = scene.spawner.worker(("a", 1), scene.plan, 3, SETTINGS)
    assert scene.code(worker) == 61
    scene.listeners.broker.close()


def test_a_probe_keeps_none(scene: Scene) -> None:
    process = scene.spawner.probe(SETTINGS)
    assert scene.code(process) == 20
    assert (process.role, process.label) == (Role.PROBE, "probe")


def test_callbacks_have_the_user_of_their_worker_and_a_time(scene: Scene) -> None:
    calls = [("on_worker_exit", (1, 2, "exited 0")), ("on_master_stop", ())]
    process = scene.spawner.callbacks(SETTINGS, scene.plan.declarations["a"], calls, 7.0)
    assert scene.code(process) == 32
    assert process.deadline == process.started + 7.0


def test_other_helpers_run_what_they_are_given_for_as_long_as_a_boot(scene: Scene) -> None:
    trial = scene.spawner.helper(Role.TRIAL, SETTINGS, lambda _: 40)
    watcher = scene.spawner.helper(Role.WATCHER, SETTINGS, lambda _: 50)
    assert [scene.code(each) for each in (trial, watcher)] == [40, 50]
    assert trial.deadline == trial.started + SETTINGS.boot_timeout


def test_a_child_that_fails_says_why(scene: Scene) -> None:
    process = scene.spawner.helper(Role.TRIAL, SETTINGS, lambda _: 1 // 0)
    assert scene.code(process) == 1
    (message,) = scene.children.drain(process)
    assert message.fields["reason"] == "ZeroDivisionError: integer division or modulo by zero"
