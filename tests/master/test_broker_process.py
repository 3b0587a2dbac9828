"""The process of the local broker in the account of the arbiter: when it starts, when again."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import World, declaration

from gworker.broker.url import parse
from gworker.master import upgrade_state
from gworker.master.slots import Process, Role


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An instance whose broker can be connected to at `app.broker`."""
    made = World(tmp_path)
    made.fleet.broker.open(str(tmp_path / "app.broker"), made.fleet.settings)
    made.start(declaration("a"))
    yield made
    made.fleet.broker.close()
    made.close()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[socket.socket]:
    """A connection, which waits as soon as it is opened."""
    with socket.socket(socket.AF_UNIX) as made:
        yield made


def connect(world: World, client: socket.socket) -> Process:
    client.connect(world.fleet.listeners.broker.path)
    world.run()
    return current(world)


def current(world: World) -> Process:
    process = world.fleet.broker.current
    assert process is not None
    return process


def brokers(world: World) -> list[Process]:
    return [each for each in world.children.born if each.role is Role.BROKER]


def test_it_starts_when_somebody_connects(world: World, client: socket.socket) -> None:
    world.sleep(5)
    assert brokers(world) == []
    process = connect(world, client)
    assert process.label == "broker"
    world.ready(process)
    world.sleep(5)
    assert brokers(world) == [process]
    assert process.state.value == "ready"


def test_another_broker_has_no_process(tmp_path: Path) -> None:
    made = World(tmp_path, broker=parse("redis://h"), cluster_name="shop")
    made.fleet.broker.open(str(tmp_path / "app.broker"), made.fleet.settings)
    assert not (tmp_path / "app.broker").exists()
    made.close()


def test_the_first_try_again_is_at_once_and_the_others_are_later(
    world: World, client: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    first = connect(world, client)
    world.ready(first)
    world.die(first, 9)
    assert current(world) is not first, "the connection still waits"
    assert (
        "broker (pid 1000002) killed by signal 9 (SIGKILL), after 0.0 s in service" in caplog.text
    )
    assert [(each.worker, each.pid) for each in world.fleet.exits] == [("broker", first.pid)]
    second = current(world)
    world.die(second, 1 << 8)
    assert world.fleet.broker.current is None
    status = world.instance.status()["broker"]
    assert (status["state"], status["reason"], status["retry_in"]) == ("backoff", "exited 1", 0.1)
    assert "broker is started again in 0.1 s" in caplog.text
    world.sleep(0.6)
    third = current(world)
    world.die(third, 1 << 8)
    world.sleep(0.1)
    assert world.fleet.broker.current is None
    world.sleep(0.6)
    fourth = current(world)
    world.ready(fourth)
    world.sleep(10)
    world.die(fourth, 9)
    assert current(world) is not fourth, "it had proven itself"


def test_a_fork_that_is_refused_is_tried_again(world: World, client: socket.socket) -> None:
    world.kernel.refused = 1
    client.connect(world.fleet.listeners.broker.path)
    world.run()
    assert world.fleet.broker.reason == "fork: Resource temporarily unavailable"
    assert current(world)


def test_one_that_hangs_is_killed(world: World, client: socket.socket) -> None:
    process = connect(world, client)
    world.ready(process)
    world.hanging = frozenset({process})
    world.sleep(70)
    assert (process, signal.SIGUSR2) in world.children.signals
    assert process in world.killed()


def test_one_that_is_never_ready_is_killed(
    world: World, client: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    process = connect(world, client)
    world.sleep(65)
    assert process in world.killed()
    assert "not ready within 60 s: killed by signal 9" in caplog.text


def test_it_ends_when_the_others_have_left(world: World, client: socket.socket) -> None:
    process = connect(world, client)
    world.ready(process)
    world.signal(signal.SIGTERM)
    assert (process, signal.SIGTERM) not in world.children.signals
    world.die(world.one("a"))
    assert (process, signal.SIGTERM) in world.children.signals
    assert world.instance.state == "stopping"
    world.die(process)
    assert world.instance.state == "stopped"
    assert list(world.fleet.exits) == []


def test_one_that_dies_in_a_stop_is_replaced_while_it_is_needed(
    world: World, client: socket.socket
) -> None:
    process = connect(world, client)
    world.ready(process)
    world.signal(signal.SIGTERM)
    world.die(process, 9)
    second = current(world)
    world.die(world.one("a"))
    assert second in world.killed(), "it boots"
    assert world.instance.state == "stopped"


def test_one_that_does_not_end_is_killed(world: World, client: socket.socket) -> None:
    process = connect(world, client)
    world.ready(process)
    world.signal(signal.SIGTERM)
    world.die(world.one("a"))
    world.sleep(5)
    assert process in world.killed()
    assert world.instance.state == "stopped"


def test_a_socket_that_is_made_anew_is_told(world: World, client: socket.socket) -> None:
    path = Path(world.fleet.listeners.broker.path)
    path.unlink()
    assert world.fleet.broker.restore(str(path)) == str(path)
    process = connect(world, client)  # no child runs yet: the arbiter watches both
    assert world.told(process) == []
    path.unlink()
    assert world.fleet.broker.restore(str(path)) == str(path)
    assert world.told(process) == [{"do": "listen"}]


def test_it_stays_over_an_upgrade(world: World, client: socket.socket) -> None:
    process = connect(world, client)
    world.ready(process)
    document = json.loads(json.dumps(world.instance.document()))
    record, socket = document["broker"]["process"], document["broker"]["socket"]
    assert record["pid"] == process.pid
    kept = {record["fd"], *socket["listeners"], *socket["files"]}
    assert kept <= set(upgrade_state.descriptors(document))


def test_the_ready_ones_are_told_who_died_if_the_broker_is_another(tmp_path: Path) -> None:
    world = World(tmp_path, broker=parse("redis://h"), cluster_name="shop")
    world.start(declaration("a", count=2))
    first, second = world.living()
    for each in (first, second):
        world.told(each)
    world.die(first, 9)
    assert {"do": "died", "pid": first.pid} in world.told(second)
    world.die(second, 9)
    world.sleep(1)
    third, fourth = world.booting()
    world.ready(third)
    told = world.told(third)
    assert {"do": "died", "pid": second.pid} in told, "none was ready at its death"
    assert {"do": "died", "pid": first.pid} in told, "the one that was told has told no broker"
    world.say(third, event="told", pid=first.pid)
    world.ready(fourth)
    died = [each["pid"] for each in world.told(fourth) if each["do"] == "died"]
    assert died == [second.pid]
    world.close()


def test_those_that_leave_are_told_too(tmp_path: Path) -> None:
    """Their broker may have been down."""
    world = World(tmp_path, broker=parse("redis://h"), cluster_name="shop")
    world.start(declaration("a", count=2))
    first, second = world.living()
    world.ask("scale", worker="a", count=1)
    world.told(first)
    world.die(second)
    assert {"do": "died", "pid": second.pid} in world.told(first)
    world.close()


def test_the_local_broker_learns_it_itself(world: World) -> None:
    world.ask("scale", worker="a", count=2)
    world.ready(*world.booting())
    first, second = world.living()
    world.told(second)
    world.die(first, 9)
    assert "died" not in [each["do"] for each in world.told(second)]
