"""Recycling: which process is over a limit, the successor first, one at a time, and never a boot
storm."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from world import World, declaration

from gworker.ipc.scoreboard import Column
from gworker.master import recycler
from gworker.master.recycler import AGE_JITTER, SAMPLES, SETTLED_SECONDS
from gworker.master.slots import BACKOFF_MOST, Process

MakeWorld = Callable[..., World]
MIB = 1 << 20


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MakeWorld]:
    made: list[World] = []

    def one(*declarations: Any, **settings: Any) -> World:
        made.append(World(tmp_path, **settings))
        made[-1].start(*(declarations or [declaration("a")]))
        return made[-1]

    yield one
    for world in made:
        world.close()


def enough(world: World, *processes: Process) -> None:
    """They have served as many requests as they may (request_limit.py), and ask for their
    successors."""
    for process in processes:
        world.say(process, event="replace", reason="100 requests, 100 were allowed")


def told(world: World, process: Process) -> list[str]:
    return [word["do"] for word in world.told(process)]


def retire_told(world: World, process: Process) -> list[dict[str, Any]]:
    return [word for word in world.told(process) if word["do"] == "retire"]


def test_after_max_requests_a_successor_comes_first(
    make: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = make()
    (old,) = world.living()
    with caplog.at_level(logging.INFO, "gworker"):
        enough(world, old)
    (new,) = world.booting()
    assert (new.label, new.generation) == ("a#0", 1)
    assert f"a#0 (pid {old.pid}) is recycled: 100 requests, 100 were allowed" in caplog.messages
    assert told(world, old) == [], "not before the successor is ready"
    world.ready(new)
    (word,) = retire_told(world, old)
    assert (word["code"], word["drain"], word["reload"]) == (1012, False, True)
    world.die(old)
    world.sleep(30)
    assert world.serving() == {"a#0": 1}
    assert list(world.fleet.exits) == [], "no crash"
    assert len(world.children.born) == 3, "the probe, the old, the new"


def test_a_process_that_has_served_enough_does_not_wait_for_others(make: MakeWorld) -> None:
    """They take nothing more until their successors are ready."""
    world = make(declaration("a", count=3))
    enough(world, *world.living())
    assert sorted(each.label for each in world.booting()) == ["a#0", "a#1", "a#2"]


def test_without_limits_nothing_is_recycled(make: MakeWorld) -> None:
    world = make()
    world.living()[0].row[Column.REQUESTS] += 10**9
    world.rss[world.living()[0].pid] = 1 << 40
    world.sleep(100)
    assert len(world.living()) == 1


def test_one_at_a_time_per_worker_and_the_oldest_first(make: MakeWorld) -> None:
    world = make(declaration("a", count=3), declaration("b"), max_memory=MIB)
    # a#0 is the youngest: it was killed, and filled again.
    world.sleep(5)
    world.die(world.living()[0], 9)
    world.ready(*world.booting())
    world.rss = {process.pid: 2 * MIB for process in world.living()}
    world.sleep(SETTLED_SECONDS + SAMPLES)
    labels = [each.label for each in world.booting()]
    assert sorted(labels) == ["a#1", "b#0"], "Workers do not wait for each other"
    successor = next(each for each in world.booting() if each.worker == "a")
    world.ready(successor)
    (old,) = world.retiring()
    world.sleep(20)
    assert [each.label for each in world.booting()] == ["b#0"], "its predecessor has not left yet"
    world.die(old)
    world.sleep(2)
    assert sorted(each.label for each in world.booting()) == ["a#2", "b#0"]


def test_memory_counts_when_it_stays_above(make: MakeWorld) -> None:
    world = make(max_memory=100 * MIB)
    (old,) = world.living()
    world.sleep(SETTLED_SECONDS)
    for _ in range(5):
        world.rss[old.pid] = 500 * MIB
        world.sleep(SAMPLES - 1)
        world.rss[old.pid] = 100 * MIB
        world.sleep(1)
    assert world.booting() == [], "spikes"
    world.rss[old.pid] = 101 * MIB
    world.sleep(SAMPLES + 1)
    assert len(world.booting()) == 1


def test_a_limit_below_what_a_process_needs_to_begin_with_is_no_boot_storm(make: MakeWorld) -> None:
    world = make(max_memory=MIB)
    for _ in range(60):
        world.rss = {process.pid: 20 * MIB for process in world.living()}
        world.sleep(1)
        world.ready(*world.booting())
        for process in world.retiring():
            world.die(process)
    assert len(world.children.born) <= 2 + 60 / SETTLED_SECONDS


def test_no_process_gets_older_than_max_age_and_not_all_at_once(
    make: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = iter([0.0, AGE_JITTER, 0.0, 0.0])
    monkeypatch.setattr(recycler.random, "uniform", lambda low, high: next(draws))
    world = make(declaration("a", count=2), max_age=100.0)
    world.sleep(100 * (1 - AGE_JITTER) - 2)
    assert world.booting() == []
    world.sleep(4)
    (new,) = world.booting()
    assert new.label == "a#1"
    world.ready(new)
    world.die(*world.retiring())
    world.sleep(10)
    assert [each.label for each in world.booting()] == ["a#0"]


def test_broken_files_leave_the_old_one_serving_and_are_tried_less_and_less(
    make: MakeWorld,
) -> None:
    world = make(declaration("a", count=2))
    first, second = world.living()
    enough(world, first, second)
    failures = 0
    for _ in range(600):
        world.sleep(0.5)
        for process in world.booting():
            world.fail(process)
            failures += 1
    assert world.serving() == {"a#0": 1, "a#1": 1}
    assert set(told(world, first) + told(world, second)) == {"serve_on"}
    assert 20 <= failures <= 2 * (300 / BACKOFF_MOST + 10)
    world.sleep(BACKOFF_MOST)
    world.ready(*world.booting())
    assert retire_told(world, first)


def test_one_whose_successor_cannot_be_forked_is_told_to_serve_on(make: MakeWorld) -> None:
    world = make()
    (old,) = world.living()
    world.kernel.refused = 1
    enough(world, old)
    assert told(world, old) == ["serve_on"]
    world.sleep(5)
    assert len(world.booting()) == 1


def test_not_during_a_reload_which_replaces_everything_anyway(make: MakeWorld) -> None:
    world = make(declaration("a", count=2))
    old = world.living()
    world.reload()
    enough(world, *old)
    world.sleep(5)
    assert world.living() == old
    assert [told(world, process) for process in old] == [["serve_on"], ["serve_on"]]
    world.declare(declaration("a", count=2))
    world.finish_reload()
    world.sleep(20)
    assert world.serving() == {"a#0": 2, "a#1": 2}
    assert len(world.children.born) == 2 + 4


def test_one_that_a_reload_keeps_is_recycled_after_it(make: MakeWorld) -> None:
    kept = declaration("a", reloadable=False)
    world = make(kept)
    (old,) = world.living()
    world.reload()
    enough(world, old)
    world.declare(kept)
    world.sleep(2)
    assert [each.label for each in world.booting()] == ["a#0"]
    assert old in world.living()


def test_after_a_refused_reload_it_goes_on(make: MakeWorld) -> None:
    world = make()
    world.reload()
    enough(world, *world.living())
    world.fail(world.probe)
    world.sleep(2)
    assert len(world.booting()) == 1


def test_a_reload_that_comes_while_a_successor_boots_has_the_last_word(make: MakeWorld) -> None:
    world = make()
    enough(world, *world.living())
    assert len(world.booting()) == 1
    world.reload()
    world.declare(declaration("a"))
    world.finish_reload()
    world.sleep(10)
    assert world.serving() == {"a#0": 2}


def test_not_while_stopping(make: MakeWorld) -> None:
    world = make(declaration("a", count=2))
    enough(world, world.living()[0])
    (successor,) = world.booting()
    world.signal(signal.SIGTERM)
    world.sleep(5)
    assert successor not in world.living()
    assert world.booting() == []


def test_what_a_reload_has_put_off_is_not_done_while_stopping(
    make: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(declaration("a"))
    world.reload()
    enough(world, world.living()[0])
    with caplog.at_level("INFO"):
        world.signal(signal.SIGTERM)
        world.sleep(2)
    assert "is recycled" not in caplog.text


def test_one_that_dies_while_it_is_recycled_is_not_replaced_twice(make: MakeWorld) -> None:
    world = make()
    (old,) = world.living()
    world.sleep(10)
    enough(world, old)
    world.die(old, 9)
    world.ready(*world.booting())
    world.sleep(30)
    assert len(world.children.born) == 3
    assert world.serving() == {"a#0": 1}
