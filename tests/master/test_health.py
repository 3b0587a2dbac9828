"""Health: what `gworker health` is told, and that a loop which hangs is found without an option."""

from __future__ import annotations

import signal
from collections.abc import Callable

from world import FakeCall, World, declaration

from gworker.master import control_commands
from gworker.master.watchdog import BEAT_SECONDS, BUSY_SECONDS, DUMP_SECONDS

MakeWorld = Callable[..., World]


def ask(world: World, worker: str | None = None) -> tuple[int | None, str]:
    """What `gworker health` exits with, and the reason."""
    call = FakeCall("health", worker=worker)
    control_commands.answer(world.instance, call)  # type: ignore[arg-type]
    return call.exit, call.extra.get("error", "")


def serving(world: World) -> dict[str, tuple[int, int]]:
    """For each Worker, how many of its processes serve, and how many it has."""
    call = FakeCall("health")
    control_commands.answer(world.instance, call)  # type: ignore[arg-type]
    return {row["worker"]: (row["serving"], row["processes"]) for row in call.replies[0]["health"]}


def test_an_instance_whose_workers_all_serve(world: World) -> None:
    world.start(declaration("a", count=2), declaration("b"))
    assert ask(world) == (0, "")
    assert serving(world) == {"a": (2, 2), "b": (1, 1)}


def test_one_that_starts(world: World) -> None:
    world.begin()
    assert ask(world) == (1, "the instance is starting")
    world.declare(declaration("a"))
    assert ask(world) == (1, "no process of a serves")


def test_one_that_stops(world: World) -> None:
    world.start(declaration("a"))
    world.signal(signal.SIGTERM)
    assert ask(world) == (1, "the instance is stopping")


def test_a_worker_that_is_in_a_crash_loop(world: World) -> None:
    world.start(declaration("a"), declaration("b", count=2))
    for _ in range(2):
        world.die(next(each for each in world.living() if each.worker == "b"), 3 << 8)
    code, reason = ask(world)
    assert (code, reason) == (1, "no process of b serves; b#0: exited 3")
    assert ask(world, "a") == (0, "")
    assert ask(world, "b") == (code, reason)
    assert serving(world) == {"a": (1, 1), "b": (0, 2)}


def test_one_process_that_serves_is_enough(world: World) -> None:
    world.start(declaration("a", count=2))
    world.die(world.living()[0], 9)
    assert ask(world) == (0, "")


def test_loops_that_do_not_turn(world: World) -> None:
    world.start(declaration("a", count=2))
    first, second = world.living()
    for hanging, answer in (
        (first, (0, "")),
        (second, (1, "no process of a has turned its event loop for 2.5 s")),
    ):
        hanging.row[0] = int((world.now - BUSY_SECONDS - 0.1) * 1e9)
        assert ask(world) == answer
    assert serving(world) == {"a": (0, 2)}


def test_every_fault_is_named(world: World) -> None:
    world.start(declaration("a"), declaration("b"))
    for process in world.living():
        world.die(process, 9)
    _, reason = ask(world)
    assert "no process of a serves" in reason
    assert "no process of b serves" in reason


def test_a_worker_that_does_not_exist(world: World) -> None:
    world.start(declaration("a"))
    assert ask(world, "b") == (1, "there is no Worker 'b'; there are a")


def test_a_reload_is_healthy_all_the_time(world: World) -> None:
    world.start(declaration("a"))
    world.reload()
    assert ask(world) == (0, "")
    world.declare(declaration("a"))
    assert ask(world) == (0, "")
    world.ready(*world.booting())
    assert ask(world) == (0, "")


# ---- --timeout by default


def test_a_loop_that_hangs_is_found_without_an_option(world: World) -> None:
    world.start(declaration("a", count=2))
    hanging, well = world.living()
    world.hanging = frozenset({hanging})
    world.sleep(59)
    assert world.children.signals == []
    world.sleep(1 + BEAT_SECONDS + DUMP_SECONDS + 2)
    assert world.children.signals == [(hanging, signal.SIGUSR2), (hanging, signal.SIGKILL)]
    assert well in world.living()


def test_a_slow_boot_has_the_boot_timeout_and_no_other(make: MakeWorld) -> None:
    world = make(boot_timeout=600.0)
    world.begin()
    world.sleep(300)
    assert world.children.signals == [], "the target is loaded for long"
    world.declare(declaration("a"))
    world.hanging = frozenset(world.booting())
    world.sleep(300)
    assert world.children.signals == [], "on_worker_start computes for long"
    world.ready(*world.booting())
    assert ask(world) == (0, "")
