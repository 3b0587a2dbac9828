"""--reload on the arbiter's side: the watcher's life, what it is told, and what follows. Invented
pids and clock."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from world import World, declaration

from gworker.master.slots import Role

MakeWorld = Callable[..., World]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MakeWorld]:
    made: list[World] = []

    def one(**settings: Any) -> World:
        made.append(World(tmp_path, **{"reload": True, **settings}))
        return made[-1]

    yield one
    for world in made:
        world.close()


@pytest.fixture
def world(make: MakeWorld) -> World:
    made = make()
    made.start(declaration("a"))
    return made


def told(world: World) -> list[dict[str, Any]]:
    """What the watcher was told since the last call."""
    return world.told(world.watchers()[-1])


def change(world: World, *paths: str) -> None:
    """The watcher speaks."""
    world.say(world.watchers()[-1], event="changed", paths=list(paths), more=0)


def uses(world: World, *files: str, patterns: tuple[str, ...] = (), since: float = 1.0) -> None:
    """A process says what it uses."""
    process = next(each for each in world.children.by_pid.values() if each.role is not Role.WATCHER)
    world.say(process, event="files", files=list(files), patterns=list(patterns), since=since)


def test_without_the_option_there_is_no_watcher(make: MakeWorld) -> None:
    world = make(reload=False)
    world.start(declaration("a"))
    uses(world, "/srv/app.py")
    world.sleep(5)
    assert world.watchers() == []
    assert world.instance.reloader.next_deadline() == float("inf")


def test_a_watcher_has_no_deadline(world: World) -> None:
    (watcher,) = world.watchers()
    assert watcher.deadline is None


def test_a_change_reloads(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "gworker")
    change(world, f"{Path.cwd()}/app.py", "/srv/lib.py")
    assert "changed: app.py, /srv/lib.py" in caplog.text
    world.declare(declaration("a"))
    world.finish_reload()
    assert world.serving() == {"a#0": 2}


def test_a_current_directory_that_was_removed_does_no_harm(
    make: MakeWorld,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    caplog.set_level("INFO", "gworker")
    world = make(chdir="/srv")
    world.start(declaration("a"))
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    change(world, "/srv/app.py")
    assert "changed: app.py" in caplog.text
    assert world.instance.state == "reloading"


def test_a_change_during_a_reload_is_one_more_reload(world: World) -> None:
    change(world, "/srv/app.py")
    change(world, "/srv/app.py")
    change(world, "/srv/app.py")
    for _ in range(2):
        world.declare(declaration("a"))
        world.finish_reload()
    assert world.serving() == {"a#0": 3}
    assert world.instance.state == "running"


def test_a_change_that_does_not_load_changes_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    change(world, "/srv/app.py")
    world.fail(
        world.probe, "SyntaxError: invalid syntax (app.py, line 3)", 'File "/srv/app.py", line 3\n'
    )
    assert world.serving() == {"a#0": 1}
    assert caplog.text.count("SyntaxError: invalid syntax (app.py, line 3)") == 1
    assert caplog.text.count('File "/srv/app.py", line 3') == 1
    change(world, "/srv/app.py")
    world.declare(declaration("a"))
    world.finish_reload()
    assert world.serving() == {"a#0": 2}


# ---- what is watched


def test_the_watcher_is_told_each_file_once(world: World) -> None:
    told(world)
    uses(world, "/srv/app.py", "/srv/b.py", since=7.0)
    uses(world, "/srv/app.py", "/srv/c.py", since=8.0)
    assert told(world) == [
        {"files": ["/srv/app.py", "/srv/b.py"], "since": 7.0},
        {"files": ["/srv/c.py"], "since": 8.0},
    ]


def test_where_what_is_missing_may_appear_is_watched_until_it_loads(world: World) -> None:
    change(world, "/srv/app.py")
    told(world)
    uses(world, patterns=("/srv/*.py",), since=7.0)
    uses(world, patterns=("/srv/*.py",), since=8.0)
    assert told(world) == [{"patterns": ["/srv/*.py"], "since": 7.0}]
    world.fail(world.probe)
    assert told(world) == []
    change(world, "/srv/missing.py")
    world.declare(declaration("a"))
    world.finish_reload()
    assert [each["patterns"] for each in told(world)] == [[]]


def test_nonsense_from_a_process_does_no_harm(world: World) -> None:
    told(world)
    process = world.living()[0]
    world.say(
        process, event="files", files=[7, None, ["x"], "/srv/x.py"], patterns=[{}, 3], since=1.0
    )
    assert told(world) == [{"files": ["/srv/x.py"], "since": 1.0}]
    world.say(process, event="files", files="/srv/y.py", patterns=[], since=1.0)
    assert told(world) == []
    assert process.kill_reason == "sent a message that makes no sense"


def test_there_is_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gworker.master.autoreload.MAX_FILES", 3)
    told(world)
    uses(world, "/1", "/2")
    uses(world, "/3", "/4")
    uses(world, "/5")
    assert [path for each in told(world) for path in each["files"]] == ["/1", "/2", "/3"]


def test_a_watcher_that_does_not_read_is_told_later(world: World) -> None:
    names = [f"/srv/{number:05}{'x' * 900}.py" for number in range(2000)]
    for start in range(0, 2000, 100):
        uses(world, *names[start : start + 100])
    found: list[str] = []
    for _ in range(100):
        found += [path for each in told(world) for path in each.get("files", [])]
        world.sleep(1)
    assert found == names


# ---- the watcher's life


def test_a_dead_watcher_is_replaced_with_back_off_and_told_everything(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    uses(world, "/srv/app.py", since=7.0)
    uses(world, patterns=("/srv/*.py",), since=8.0)
    times = []
    for _ in range(6):
        before, count = world.now, len(world.watchers())
        world.die(world.watchers()[-1])
        while len(world.watchers()) == count:
            world.sleep(0.05)
            assert world.now - before < 60
        times.append(world.now - before)
    assert times == sorted(times)
    assert times[0] < 0.3
    assert times[-1] >= 3.2, "six in a row: 0.1 s doubled five times"
    assert told(world) == [
        {"files": ["/srv/app.py"], "since": 7.0},
        {"patterns": ["/srv/*.py"], "since": 8.0},
    ]
    assert "the watcher of --reload: it has ended; another one in 0.1 s" in caplog.text
    change(world, "/srv/app.py")
    assert world.instance.state == "reloading"


def test_a_watcher_that_fails_says_why(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gworker.master.autoreload.setproctitle", lambda _: None)
    monkeypatch.setattr("gworker.system.privileges.drop", lambda user, group: 1 / 0)
    (watcher,) = world.watchers()
    assert world.instance.reloader._watch(world.children.ends[watcher.pid]) == 1
    assert "the watcher of --reload failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_other_words_of_a_watcher_do_no_harm(world: World) -> None:
    world.say(world.watchers()[-1], event="failed", reason="", traceback="")
    assert world.instance.state == "running"


def test_a_watcher_that_cannot_be_forked_is_tried_again(world: World) -> None:
    world.sleep(10)
    world.kernel.refused = 1
    world.die(world.watchers()[-1])
    world.sleep(5)
    assert world.kernel.refused == 0
    assert len(world.watchers()) == 2
    assert world.serving() == {"a#0": 1}


def test_a_watcher_that_a_dead_file_server_holds_is_not_waited_for(world: World) -> None:
    world.children.make_deathless(world.watchers()[0])
    world.instance.stop()
    for process in world.living():
        world.die(process)
    world.sleep(1)
    assert world.instance.state == "stopped"


def test_the_watcher_ends_with_the_instance(world: World) -> None:
    world.instance.stop()
    world.run()
    (watcher,) = world.watchers()
    assert (watcher, signal.SIGKILL) in world.children.signals
    world.sleep(5)
    assert len(world.watchers()) == 1, "and no other one is started"


# ---- a start that fails


def test_a_start_that_fails_waits_for_a_change(make: MakeWorld) -> None:
    world = make()
    world.begin()
    world.fail(world.probe, "SyntaxError: invalid syntax (app.py, line 1)", "Traceback…\n")
    assert world.instance.state == "starting"
    assert world.launch.words == [
        ("failed", "Traceback…\ngworker: error: SyntaxError: invalid syntax (app.py, line 1)")
    ]
    world.sleep(100)
    assert list(world.children.by_pid.values()) == world.watchers()
    change(world, "/srv/app.py")
    world.fail(world.probe)
    change(world, "/srv/app.py")
    world.declare(declaration("a"))
    world.ready(*world.booting())
    assert world.instance.state == "running"
    assert world.launch.words[-1][0] == "ready"
    assert world.instance.exit_code == 0


def test_a_process_that_fails_at_the_start_leaves_nothing_behind(make: MakeWorld) -> None:
    world = make()
    world.begin()
    world.declare(declaration("a"), declaration("b", listen="tcp://127.0.0.1:0"))
    a, b = world.booting()
    world.ready(b)
    world.fail(a, "ValueError: in on_worker_start")
    assert world.retiring() == [b]
    assert not world.fleet.listeners.held
    world.sleep(20)
    assert world.booting() == [], "it is not tried again by itself"
    change(world, "/srv/app.py")
    world.declare(declaration("a"))
    world.die(b)
    world.ready(*world.booting())
    assert world.instance.state == "running"
    assert set(world.serving()) == {"a#0"}
    assert set(world.fleet.slots) == {("a", 0)}


def test_a_hup_tries_the_start_again(make: MakeWorld) -> None:
    world = make()
    world.begin()
    world.fail(world.probe)
    call = world.reload()
    world.declare(declaration("a"))
    world.ready(*world.booting())
    assert (call.exit, world.instance.state) == (0, "running")


def test_stopped_while_it_waits(make: MakeWorld) -> None:
    world = make()
    world.begin()
    world.fail(world.probe)
    world.instance.stop()
    world.run()
    assert world.instance.state == "stopped"


@pytest.mark.parametrize("settings", [{"reload": False}, {"reload": True, "daemon": True}])
def test_a_daemon_and_an_instance_without_the_option_do_not_wait(
    make: MakeWorld, settings: dict[str, Any]
) -> None:
    world = make(**settings)
    world.begin()
    world.fail(world.probe)
    world.sleep(1)
    assert (world.instance.state, world.instance.exit_code) == ("stopped", 1)
