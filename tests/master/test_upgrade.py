"""What passes from the arbiter to its successor in the same process, and what happens before
that."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from world import FakeCall, World, declaration

from gworker.config.settings import Layer, resolve
from gworker.errors import ConfigError
from gworker.ipc.channel import Channel
from gworker.ipc.scoreboard import Column, Scoreboard
from gworker.master import upgrade, upgrade_state
from gworker.master.slots import State


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path)
    yield one
    one.close()


class Replaced(BaseException):
    """The process is another program now."""


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The documents that were passed through an exec."""
    passed: list[dict[str, Any]] = []

    def execve(path: str, arguments: list[str], environment: dict[str, str]) -> NoReturn:
        with open(os.dup(int(environment[upgrade.DOCUMENT]))) as file:
            file.seek(0)
            passed.append(json.load(file))
        raise Replaced

    monkeypatch.setattr(upgrade.os, "execve", execve)
    monkeypatch.setattr(upgrade.os, "chdir", lambda path: None)
    monkeypatch.setattr(upgrade.signal, "pthread_sigmask", lambda how, mask: set())
    return passed


def request(world: World) -> FakeCall:
    call = FakeCall("upgrade")
    world.instance.upgrade(call)  # type: ignore[arg-type]
    world.run()
    return call


def trials(world: World) -> list[Any]:
    return [each for each in world.children.by_pid.values() if each.label == "upgrade"]


def serve(world: World) -> None:
    world.start(
        declaration(
            "a", count=2, listen="text://127.0.0.1:0", migration_obstacle="", speaks="text"
        ),
        declaration("b", count=1),
    )


def test_the_state_passes_whole(
    world: World, executed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(world)
    world.signal(signal.SIGTTIN)
    world.ready(*world.booting())
    first, *_ = world.living()
    first.row[Column.REQUESTS] = 77
    world.die(world.living()[-1], 9)  # b#1 waits for its next try
    world.reload()
    world.declare(declaration("a", count=2, listen="text://127.0.0.1:0", migration_obstacle="",
    speaks="text"),
                  declaration("b", count=1))  # fmt: skip
    world.ready(*world.booting())  # the first predecessor leaves, the next successor boots
    world.finish_reload()
    world.kernel.strays.add(4711)
    world.sleep(2)  # it has left its parent on purpose
    before = world.instance.document()
    assert before["let_be"] == [4711]
    request(world)
    with pytest.raises(Replaced):
        world.die(trials(world)[0], 0)
    (document,) = executed
    assert json.loads(json.dumps(before)) == {key: document[key] for key in before}
    assert not [fd for fd in upgrade_state.descriptors(document) if os.fstat(fd) is None]

    # The next arbiter, over copies of the descriptors, as if they had been inherited.
    def copied(record: dict[str, Any]) -> dict[str, Any]:
        copies = (
            {"fds": [os.dup(fd) for fd in record["fds"]]}
            if "fds" in record
            else {"fd": os.dup(record["fd"])}
        )
        return {**record, **copies}

    document["scoreboard"] = os.dup(document["scoreboard"])
    document["ids"] = os.dup(document["ids"])
    document["processes"] = [copied(each) for each in document["processes"]]
    document["listeners"] = [copied(each) for each in document["listeners"]]
    settings = world.fleet.settings
    other = World(Path(settings.runtime_dir), document=document)
    after = other.instance.document()
    same = (
        "generation",
        "gone",
        "exits",
        "asked",
        "let_be",
        "counts",
        "slots",
        "declarations",
        "last_reload",
        "started",
    )
    assert {key: after[key] for key in same} == {key: before[key] for key in same}

    def strip(records):
        return [{k: v for k, v in each.items() if k not in ("fd", "fds")} for each in records]

    assert strip(after["processes"]) == strip(before["processes"])
    assert strip(after["listeners"]) == strip(before["listeners"])
    assert [each.row[Column.REQUESTS] for each in other.fleet.children.by_pid.values()] == [
        each.row[Column.REQUESTS] for each in world.living()
    ]
    rows = {each.row_number for each in world.living()}
    assert other.fleet.children.scoreboard.take() not in rows
    for process in other.fleet.children.by_pid.values():
        process.channel.close()
    other.fleet.listeners.keep_only(set())
    other.arbiter.selector.close()


def test_a_trial_that_fails_changes_nothing(world: World, executed: list[dict[str, Any]]) -> None:
    serve(world)
    serving = world.serving()
    call, second = request(world), request(world)
    (trial,) = trials(world)
    assert call.steps == ["trying the new code"]
    world.die(trial, 1 << 8)
    assert (call.exit, second.exit) == (1, 1)
    assert call.extra["error"] == "the new code cannot take over: exited 1"
    assert (world.serving(), world.instance.state, executed) == (serving, "running", [])
    assert len(trials(world)) == 0
    assert request(world).exit is None, "the next one is tried again"


def test_a_trial_that_hangs_is_killed(world: World, executed: list[dict[str, Any]]) -> None:
    serve(world)
    call = request(world)
    world.sleep(world.fleet.settings.boot_timeout + 5)
    assert call.exit == 1
    assert "not ready within 60 s: killed by signal 9" in call.extra["error"]
    assert world.instance.state == "running"
    numbers = [number for _, number in world.children.signals]
    assert numbers == [signal.SIGKILL], "SIGUSR2 would end the new code before it has a handler"


def test_a_fork_that_is_refused(world: World) -> None:
    serve(world)
    world.kernel.refused = 1
    assert request(world).extra["error"] == "fork: Resource temporarily unavailable"


def test_it_waits_for_a_reload_that_goes_on(world: World, executed: list[dict[str, Any]]) -> None:
    serve(world)
    world.reload()
    call = request(world)
    assert not trials(world)
    assert call.steps == []
    world.declare(declaration("a", count=2, listen="text://127.0.0.1:0"), declaration("b", count=1))
    world.finish_reload()
    (trial,) = trials(world)
    world.reload()  # and one that begins during the trial is waited for as well
    world.die(trial, 0)
    assert not executed
    world.declare(declaration("a", count=2, listen="text://127.0.0.1:0"), declaration("b", count=1))
    world.finish_reload()
    assert not executed
    (trial,) = trials(world)  # files may have changed since the first one
    with pytest.raises(Replaced):
        world.die(trial, 0)


def test_a_process_that_dies_together_with_the_trial_is_not_taken_for_alive(
    world: World, executed: list[dict[str, Any]]
) -> None:
    serve(world)
    request(world)
    (trial,) = trials(world)
    victim = world.living()[0]
    world.children.end(trial, 0)  # reaped in the same turn, the trial first
    with pytest.raises(Replaced):
        world.die(victim, 9)
    (document,) = executed
    assert victim.pid not in [each["pid"] for each in document["processes"]]


@pytest.mark.parametrize("where", ["unread", "queued"])
def test_a_signal_that_arrives_just_before_the_exec_is_not_lost(
    world: World, executed: list[dict[str, Any]], where: str
) -> None:
    serve(world)
    call = request(world)
    if where == "unread":
        world.unread.append(signal.SIGTERM)
    else:
        world.arbiter.messages.append(lambda: world.arbiter.handle_signal(signal.SIGTERM))
    world.die(trials(world)[0], 0)
    assert (world.instance.state, executed, call.exit) == ("stopping", [], 1)


def test_a_signal_waits_until_all_messages_are_handled(
    world: World, executed: list[dict[str, Any]]
) -> None:
    serve(world)
    request(world)
    world.unread.append(signal.SIGTTIN)
    with pytest.raises(Replaced):
        world.die(trials(world)[0], 0)
    assert executed[0]["counts"] == {"a": 3, "b": 2}


@pytest.mark.parametrize("stage", ["trial", "exec"])
def test_without_descriptors_it_is_refused_and_nothing_leaks(
    world: World, executed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def no_room(*_: Any) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    serve(world)
    before = len(os.listdir("/proc/self/fd"))
    if stage == "trial":
        monkeypatch.setattr(upgrade.os, "memfd_create", no_room)
        call = request(world)
    else:
        call = request(world)
        monkeypatch.setattr(upgrade, "_written", no_room)
        world.die(trials(world)[0], 0)
    assert (call.exit, call.extra["error"][-19:]) == (1, "Too many open files")
    assert (world.instance.state, executed) == ("running", [])
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_stop_ends_it(world: World, executed: list[dict[str, Any]]) -> None:
    serve(world)
    call = request(world)
    world.signal(signal.SIGTERM)
    assert (call.exit, call.extra["error"]) == (1, "the instance is stopping")
    assert not executed
    late = request(world)
    assert (late.exit, late.extra["error"]) == (1, f"the instance is {world.instance.state}")


def test_an_exec_that_fails_leaves_everything_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(world)
    masks: list[int] = []

    def execve(*_: Any) -> NoReturn:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(upgrade.os, "execve", execve)
    here = os.getcwd()
    gc.collect()  # what other tests have left is not to go in between
    before = len(os.listdir("/proc/self/fd"))
    call = request(world)
    monkeypatch.setattr(
        upgrade.signal, "pthread_sigmask", lambda how, mask: masks.append(how) or set()
    )
    world.die(trials(world)[0], 0)
    assert call.extra["error"] == "exec: No such file or directory"
    assert masks == [signal.SIG_BLOCK, signal.SIG_SETMASK]
    assert os.getcwd() == here
    assert len(os.listdir("/proc/self/fd")) == before
    assert not any(os.get_inheritable(each.channel.fileno()) for each in world.living())
    assert not os.get_inheritable(world.fleet.children.scoreboard.fileno())
    assert world.instance.state == "running"


def document(world: World, **changes: Any) -> dict[str, Any]:
    return {
        **json.loads(json.dumps(world.instance.document())),
        **changes,
    }


def test_a_trial_ends_before_anything_is_touched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(world)
    settings = world.fleet.settings
    for trial in (True, False):
        memory = upgrade._written(document(world))
        monkeypatch.setenv(upgrade.DOCUMENT, str(memory))
        assert upgrade.is_pending()
        if trial:
            monkeypatch.setenv(upgrade.TRIAL, "1")
            with pytest.raises(SystemExit) as ended:
                upgrade.inherited(settings)
            assert ended.value.code == 0
        else:
            assert upgrade.inherited(settings) == document(world)
        assert upgrade.DOCUMENT not in os.environ
        assert upgrade.TRIAL not in os.environ
    assert upgrade.inherited(settings) is None
    other = resolve("app", Layer("test", {"runtime_dir": "/x", "name": "test"}))
    monkeypatch.setenv(upgrade.DOCUMENT, str(upgrade._written(document(world))))
    monkeypatch.setenv(upgrade.TRIAL, "1")
    with pytest.raises(ConfigError, match="restart needed for: runtime-dir"):
        upgrade.inherited(other)


def test_rows_of_the_living_are_not_given_away() -> None:
    board = Scoreboard(4)
    numbers = [board.take() for _ in range(3)]
    board.row(numbers[1])[Column.REQUESTS] = 5
    again = Scoreboard(descriptor=os.dup(board.fileno()), used={numbers[1]})
    assert again.row(numbers[1])[Column.REQUESTS] == 5
    taken = {again.take() for _ in range(3)}
    assert numbers[1] not in taken
    with pytest.raises(OSError):
        again.take()


def test_a_channel_goes_on_by_its_descriptor(world: World) -> None:
    serve(world)
    process = world.living()[0]
    again = Channel(os.dup(process.channel.fileno()))
    assert again.send({"do": "something"})
    assert world.told(process)[-1] == {"do": "something"}
    assert process.state is State.READY
    again.close()
