"""What a reload does with settings that have changed, with invented pids: when they are in force,
and for which processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import FakeCall, World, declaration

from gworker.config.options import default_runtime_dirs
from gworker.config.settings import Layer
from gworker.config.sources import Sources
from gworker.master import control_commands

APP = declaration("app")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "gworker.toml"
    path.parent.mkdir()
    path.write_text("workers = 2\ngraceful-timeout = 5\nboot-timeout = 20\ntimeout = 50")
    return path


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> Iterator[World]:
    log = logging.getLogger("gworker")
    level = log.level
    one = World(tmp_path)
    one.fleet.settings = Sources(
        "app",
        Layer("command line", {"name": "test"}),
        environment=(),
        directory=str(file.parent),
    ).read()
    one.start(APP)
    yield one
    one.close()
    log.setLevel(level)


def in_force(world: World) -> dict[str, object]:
    """As `gworker status --settings` gets it."""
    call = FakeCall("settings")
    control_commands.answer(world.instance, call)  # type: ignore[arg-type]
    assert call.exit == 0
    answer = call.replies[0]["settings"]
    return {**{row.name: row.value for row in answer["rows"]}, "pending": answer["pending"]}


def test_new_settings_are_in_force_once_the_first_successor_is_ready(
    world: World, file: Path
) -> None:
    before = world.fleet.settings
    file.write_text("workers = 3\nlog-level = 'error'\nenv = {A = 'b'}")
    call = world.reload()
    assert call.steps == ["settings: workers 2 → 3, env, log-level info → error, "
                          "graceful-timeout 5.0 → 30.0, "
                          "boot-timeout 20.0 → 60.0, timeout 50.0 → "
                          "60.0", "loading the target"]  # fmt: skip
    world.declare(APP)
    (first,) = world.booting()
    assert first.settings is not None
    assert (first.settings.workers, first.settings.env) == (3, (("A", "b"),))
    assert first.deadline == world.now + 60
    assert world.fleet.settings is before
    assert in_force(world)["workers"] == 2
    assert logging.getLogger("gworker").level != logging.ERROR
    world.ready(first)
    assert world.fleet.settings is first.settings
    assert in_force(world)["workers"] == 3
    assert logging.getLogger("gworker").level == logging.ERROR
    world.finish_reload()
    assert call.exit == 0
    assert len(world.serving()) == 3


def test_an_old_process_that_dies_before_that_is_replaced_with_old_settings(
    world: World, file: Path
) -> None:
    before = world.fleet.settings
    file.write_text("workers = 3")
    world.reload()
    second = world.living()[1]
    world.die(second, 9)
    world.sleep(1)
    world.declare(APP)
    settings = {process.label: process.settings for process in world.booting()}
    assert settings["app#1"] is before
    assert settings["app#0"] is not before


def test_a_process_ends_under_the_settings_that_it_was_started_with(
    world: World, file: Path
) -> None:
    file.write_text("workers = 2\ngraceful-timeout = 50")
    world.reload()
    world.declare(APP)
    old = world.living()[:2]
    world.ready(*world.booting())
    world.ready(*world.booting())
    for process in old:
        (told,) = [word for word in world.told(process) if word["do"] == "retire"]
        assert told["seconds"] == 5
    stop = FakeCall("stop")
    control_commands.answer(world.instance, stop)  # type: ignore[arg-type]
    assert stop.replies[0] == {"timeout": 50}


def test_the_time_for_which_a_loop_may_hang_is_that_of_the_process(
    world: World, file: Path
) -> None:
    file.write_text("workers = 2\ntimeout = 0\n[worker.app]\nreloadable = false")
    world.reload()
    kept = declaration("app", reloadable=False)
    world.declare(kept)
    world.finish_reload()
    assert world.fleet.settings.timeout == 0
    old = world.living()
    world.hanging = frozenset(old)
    world.sleep(52.5)
    assert [process.stacks_requested for process in old] == [True, True]


def test_stop_is_as_patient_as_the_oldest_process_needs(world: World, file: Path) -> None:
    file.write_text("workers = 2\ngraceful-timeout = 1")
    world.reload()
    world.declare(APP)
    world.ready(*world.booting())
    stop = FakeCall("stop")
    control_commands.answer(world.instance, stop)  # type: ignore[arg-type]
    assert stop.replies[0] == {"timeout": 5}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "workers = 0",
            "gworker.toml: workers = 0 is not valid, expected a whole number, 1 or more",
        ),
        ("workers = ", "gworker.toml: invalid TOML: "),
        (None, "gworker.toml: the settings read from it are gone"),
    ],
)
def test_a_file_that_is_wrong_refuses_the_reload(
    world: World, file: Path, text: str | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, children = world.fleet.settings, list(world.children.born)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    call = world.reload()
    assert call.exit == 1
    assert reason in call.extra["error"]
    assert call.steps == []
    assert world.fleet.settings is before
    assert world.children.born == children
    assert world.instance.state == "running"
    assert world.instance.rollouts.report()["ok"] is False
    assert reason in world.instance.rollouts.report()["error"]
    file.write_text("workers = 3")
    world.reload()
    world.declare(APP)
    world.finish_reload()
    assert len(world.serving()) == 3


def test_a_fault_of_ours_in_reading_refuses_the_reload_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renew(_: object) -> None:
        raise RuntimeError("not thought of")

    monkeypatch.setattr("gworker.master.rollout.reread", renew)
    call = world.reload()
    assert (call.exit, call.extra["error"]) == (1, "RuntimeError: not thought of")
    assert world.instance.state == "running"


def test_a_reload_that_fails_otherwise_keeps_the_settings(world: World, file: Path) -> None:
    before = world.fleet.settings
    file.write_text("workers = 3\nlog-level = 'error'")
    level = logging.getLogger("gworker").level
    world.reload()
    world.fail(world.probe)
    assert world.fleet.settings is before
    world.reload()
    world.declare(APP)
    world.fail(*world.booting())
    assert world.fleet.settings is before
    assert logging.getLogger("gworker").level == level
    world.die(world.living()[0], 9)
    world.sleep(1)
    (again,) = world.booting()
    assert again.settings is before


def test_one_that_fails_in_its_middle_leaves_the_new_settings_in_force(
    world: World, file: Path
) -> None:
    file.write_text("workers = 3")
    call = world.reload()
    world.declare(APP)
    world.ready(*world.booting())
    world.fail(*world.booting())
    assert call.exit == 1
    assert world.fleet.settings.workers == 3


def test_what_needs_a_restart_is_named_and_stays(
    world: World, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, str]] = []
    monkeypatch.setattr(
        "gworker.master.rollout.log", logging.getLogger("gworker.test_reload_settings")
    )
    handler = logging.Handler()
    handler.emit = lambda record: told.append((record.levelno, record.getMessage()))  # type: ignore[method-assign]
    logging.getLogger("gworker.test_reload_settings").addHandler(handler)
    runtime_dir = default_runtime_dirs()[0]
    file.write_text("workers = 2\nruntime-dir = 'elsewhere'\nstdout-file = 'o'")
    call = world.reload()
    assert "restart needed for: runtime-dir, stdout-file" in call.steps
    assert (logging.WARNING, "reload: restart needed for: runtime-dir, stdout-file") in told
    world.declare(APP)
    world.finish_reload()
    assert world.fleet.settings.runtime_dir is None
    assert in_force(world)["runtime-dir"] == runtime_dir
    assert in_force(world)["pending"] == ("runtime-dir", "stdout-file")


def test_recycling_follows_the_settings_of_each_process(world: World, file: Path) -> None:
    file.write_text("workers = 2\nmax-memory = '100M'")
    world.reload()
    world.declare(APP)
    world.finish_reload()
    first = world.living()[0]
    world.rss[first.pid] = 200 << 20
    world.sleep(20)
    (successor,) = world.booting()
    assert (successor.id, successor.generation) == (first.id, first.generation)
    file.write_text("workers = 2")
    world.ready(successor)
    world.die(first)
    world.reload()
    world.declare(APP)
    world.finish_reload()
    for process in world.living():
        world.rss[process.pid] = 200 << 20
    world.sleep(20)
    assert world.booting() == []


def test_what_was_scaled_stays_unless_the_setting_changes(world: World, file: Path) -> None:
    world.instance.scale("app", 4)
    world.run()
    world.ready(*world.booting())
    file.write_text("workers = 2\ntimeout = 9")
    world.reload()
    world.declare(APP)
    world.finish_reload()
    assert len(world.serving()) == 4
    file.write_text("workers = 3")
    world.reload()
    world.declare(APP)
    world.finish_reload()
    assert len(world.serving()) == 3


def test_the_same_file_says_nothing(world: World) -> None:
    assert world.reload().steps == ["loading the target"]
