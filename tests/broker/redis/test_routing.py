"""The order of the commands of a channel, whatever servers answer."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis.exceptions import AskError, MovedError, NoScriptError, ResponseError, TryAgainError

from gworker.broker.redis.command import Command
from gworker.broker.redis.commands import CommandLink
from gworker.broker.redis.nodes import Nodes
from gworker.broker.redis.partitions import PARTITIONS
from gworker.broker.redis.routing import Router
from gworker.broker.redis.topology import Address, Topology
from gworker.errors import BrokerDown

OLD, NEW = ("old", 1), ("new", 2)
MOVED = MovedError("7 new:2")


class Server:
    """A link whose server answers when the test says so."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.waiting: list[Command] = []
        self.done: list[bytes] = []
        self.is_down = False

    def submit(self, command: Command) -> None:
        if self.is_down:
            raise BrokerDown("it is down")
        self.waiting.append(command)

    def close(self, reason: str) -> None:
        self.is_down = True

    def answer(self) -> None:
        command = self.waiting.pop(0)
        self.done.append(command.words[-1])
        command.answer(1)

    def refuse(self, router: Router, error: ResponseError) -> None:
        command = self.waiting.pop(0)
        command.asked = None
        router.refused(command, cast(CommandLink, self), error)


class World:
    def __init__(self) -> None:
        self.servers = {address: Server(address) for address in (OLD, NEW)}
        self.old, self.new = self.servers.values()
        self.nodes = Nodes(cast(Any, None), lambda address: cast(Any, self.servers)[address])
        self.router = Router(self.nodes, lambda: None)
        self.owned_by(OLD, NEW)

    def owned_by(self, owner: Address, other: Address) -> None:
        owners = [owner] * (PARTITIONS - 1) + [other]
        self.router.move(Topology(tuple(owners)))

    def post(self, name: bytes, channel: bytes = b"g:a") -> Command:
        words = (b"EVALSHA", b"0", b"0", name)
        return self.router.submit(Command(0, words, False, channel, b"source"))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("gworker.broker.redis.routing.MOVING_SECONDS", 0.0)
    return World()


def run(world: World) -> None:
    for _ in range(10):
        world.router.try_again(1)
        for server in (world.old, world.new):
            while server.waiting:
                server.answer()


def names(server: Server) -> list[bytes]:
    return [name for name in server.done if name != b"PING"]


def test_what_follows_waits_for_what_was_refused(world: World) -> None:
    world.post(b"enter")
    world.old.refuse(world.router, MOVED)
    world.owned_by(NEW, OLD)
    world.post(b"exit")
    world.post(b"other", b"g:b")
    run(world)
    assert [name for name in names(world.new) if name != b"other"] == [b"enter", b"exit"]
    assert b"other" in world.new.done


def test_the_new_owner_waits_for_the_former_one(world: World) -> None:
    world.post(b"enter")
    world.owned_by(NEW, OLD)
    world.post(b"exit")
    assert world.new.waiting == [] or world.new.waiting[0].words == (b"PING",)
    world.old.refuse(world.router, MOVED)
    run(world)
    assert names(world.new) == [b"enter", b"exit"]


def test_a_former_owner_that_is_down_holds_up_nothing(world: World) -> None:
    world.old.is_down = True
    world.owned_by(NEW, OLD)
    world.post(b"enter")
    run(world)
    assert names(world.new) == [b"enter"]


def test_scripts_that_were_lost_keep_their_order(world: World) -> None:
    for name in (b"enter", b"exit", b"enter again"):
        world.post(name)
    for _ in range(3):
        world.old.refuse(world.router, NoScriptError("no script"))
    run(world)
    assert names(world.old) == [b"enter", b"exit", b"enter again"]


def test_what_is_asked_elsewhere_goes_one_after_the_other(world: World) -> None:
    for name in (b"enter", b"exit", b"enter again"):
        world.post(name)
    world.old.refuse(world.router, TryAgainError("try again"))
    for name in (b"enter", b"exit", b"enter again"):
        while world.old.waiting:
            world.old.refuse(world.router, AskError("7 new:2"))
            world.router.try_again(1)
        assert [command.words[-1] for command in world.new.waiting] == [name]
        world.new.answer()
        world.router.try_again(1)
        assert len(world.old.waiting + world.new.waiting) <= 1
    assert names(world.new) == [b"enter", b"exit", b"enter again"]


def test_what_is_new_does_not_overtake_what_is_tried_again(world: World) -> None:
    world.post(b"enter")
    world.old.refuse(world.router, TryAgainError("try again"))
    world.post(b"exit")
    assert world.old.waiting == []
    run(world)
    assert names(world.old) == [b"enter", b"exit"]


def test_what_waits_fails_when_the_broker_is_closed(world: World) -> None:
    command = Command(0, (b"EVALSHA", b"0", b"0", b"enter"), True, b"g:a")
    world.router.submit(command)
    world.old.refuse(world.router, MOVED)
    world.router.close()
    with pytest.raises(BrokerDown, match="closed"):
        command.wait()


def test_no_more_is_held_back_than_the_process_can_hold(world: World) -> None:
    world.post(b"enter")
    world.old.refuse(world.router, MOVED)
    with pytest.raises(BrokerDown, match="slots have moved"):
        for _ in range(100):
            world.post(bytes(1 << 20))
    world.owned_by(NEW, OLD)
    run(world)
    assert len(names(world.new)) == 16
    world.post(bytes(1 << 20))
