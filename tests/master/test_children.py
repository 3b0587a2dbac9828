"""Forking, hearing and reaping children: what the kernel refuses, nonsense, what is given back."""

from __future__ import annotations

import gc
import os
import selectors
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from world import World, declaration

from gworker.ipc.channel import Channel
from gworker.master.children import Children
from gworker.master.slots import Role

MakeWorld = Callable[..., World]


def test_a_full_scoreboard_is_a_fork_that_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start(declaration("a"))
    taken = []
    children = world.fleet.children
    while children.scoreboard._free:
        taken.append(children.scoreboard.take())
    monkeypatch.setattr(world.kernel, "fork", lambda _: pytest.fail("no row, no child"))
    with pytest.raises(OSError, match="scoreboard is full"):
        children.fork(Role.WORKER, 1, world.fleet.settings, lambda *_: 0, ("a", 0))


def test_a_refused_fork_leaks_nothing(world: World) -> None:
    world.start(declaration("a"))
    children, world.kernel.refused = world.fleet.children, 1
    rows, descriptors = len(children.scoreboard._free), len(os.listdir("/proc/self/fd"))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(OSError, match="temporarily unavailable"):
        children.fork(Role.WORKER, 1, world.fleet.settings, lambda *_: 0, ("a", 0))
    assert len(children.scoreboard._free) == rows
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def test_orphans_are_reaped_and_are_none_of_ours() -> None:
    """As process 1, or as a subreaper, the arbiter inherits them; gunicorn halted on those that
    exit 3."""
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with closing(selectors.DefaultSelector()) as selector:
        children = Children(selector, pytest.fail, lambda: None, frozenset())
        assert children.reap() == []
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_rows_and_channels_of_the_dead_are_given_back(world: World) -> None:
    world.start(declaration("a"))
    gc.collect()  # what other tests have left is not to go in between
    free, descriptors = len(world.fleet.children.scoreboard._free), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        world.sleep(10)
        world.die(*world.living(), 9)
        world.ready(*world.booting())
    assert len(world.fleet.children.scoreboard._free) == free
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_what_a_process_said_before_it_died_is_heard_first(world: World) -> None:
    world.begin()
    world.declare(declaration("a"))
    (process,) = world.booting()
    world.children.ends[process.pid].send(
        {"event": "failed", "reason": "no database", "traceback": ""}
    )
    world.die(process, 9)
    assert world.launch.words[0][0] == "failed"
    assert "no database" in world.launch.words[0][1]


def test_a_worker_called_probe_is_a_worker(world: World) -> None:
    world.start(declaration("probe"))
    world.sleep(10)
    world.die(*world.living(), 9)
    world.ready(*world.booting())
    assert world.serving() == {"probe#0": 1}
    assert len(world.fleet.exits) == 1


@pytest.mark.parametrize(
    "word",
    [
        {"event": "nonsense"},
        {},
        {"event": "failed", "reason": 3, "traceback": ""},
        {"event": "failed"},
        {"event": "connections", "request": "x"},
        {"event": "declared", "workers": "x"},
        {"event": ["ready"]},
    ],
    ids=str,
)
def test_a_process_that_talks_nonsense_is_killed_and_no_other(
    world: World, word: dict[str, Any]
) -> None:
    """Its code is not ours, and may run as another user: it must not be able to end the arbiter."""
    world.start(declaration("a", count=2))
    first, second = world.living()
    world.sleep(10)
    world.say(first, **word)
    assert world.killed() == [first]
    assert "makes no sense" in world.fleet.exits[-1].reason
    world.ready(*world.booting())
    assert second in world.living()
    assert len(world.serving()) == 2


def test_a_program_that_a_dead_process_has_left_cannot_talk_on_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have inherited the process's end of the channel."""
    world.start(declaration("a"))
    (process,) = world.living()
    heard = 0

    def receive(_: Channel) -> tuple[dict[str, str], list[int]]:
        nonlocal heard
        heard += 1
        assert heard < 100_000
        return {"event": "replace", "reason": ""}, []

    monkeypatch.setattr(Channel, "receive", receive)
    world.kernel.dead.append((process.pid, 9))
    world.arbiter.turn()
    assert process not in world.living()


def test_a_child_that_has_closed_its_channel_is_not_listened_to_after_an_upgrade(
    world: World,
) -> None:
    """Its end of file is found once more; a selector that goes on listening would spin."""
    world.start(declaration("a"))
    (process,) = world.living()
    world.children.ends[process.pid].close()
    world.run()
    document = world.instance.document()
    for record in (document, *document["processes"]):
        record |= {key: os.dup(record[key]) for key in ("scoreboard", "ids", "fd") if key in record}
    with closing(World(Path(world.fleet.settings.runtime_dir), document=document)) as other:
        assert list(other.children.by_pid) == [process.pid]
        other.run()
