"""Members that come to rooms and leave them, over the processes of a running instance."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import places
import pytest
import redis_servers
from instance import DEADLINE, wait_for
from redis_servers import Server
from serving import Served, serve

pytestmark = pytest.mark.timeout(120)

NUMBERS = itertools.count()


@pytest.fixture(scope="module", params=["local", "redis"])
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server | None]:
    """The server of an instance's messages, if it is not the instance's own."""
    if request.param == "local":
        yield None
    else:
        directory = tmp_path_factory.mktemp("redis")
        with redis_servers.single(directory, redis_servers.redis_program()) as server:
            yield server


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, broker: Server | None) -> Iterator[Served]:
    options = ["-w", "4", "--graceful-timeout", "1"]
    if broker is not None:
        options += ["--broker", broker.url, "--cluster-name", "test"]
    with serve(tmp_path_factory, places.app("present"), *options) as one:
        yield one


class Member:
    """A client that has joined a room. joined, left: users, in the order in which it has heard of
    them, with the time."""

    def __init__(
        self, app: Served, group: str, uid: str, ends: ExitStack, worker: str = "lobby"
    ) -> None:
        self.uid = uid
        self.joined: list[str] = []
        self.left: list[tuple[str, float]] = []
        self._answers: list[object] = []
        self.socket = ends.enter_context(
            socket.create_connection(("127.0.0.1", app.port(worker)), timeout=DEADLINE)
        )
        self.socket.settimeout(None)
        self.thread = threading.Thread(target=self._read)
        self.thread.start()
        ends.callback(self.close)
        self.pid = self.call("pid")
        if group:
            self.call("join", group, uid)

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(DEADLINE)

    def _read(self) -> None:
        with self.socket.makefile() as lines, suppress(ConnectionResetError):
            for line in lines:
                message = json.loads(line)
                if "answer" in message:
                    self._answers.append(message["answer"])
                else:
                    self.joined += [each[1] for each in message["joined"]]
                    assert all(each[2] == {"of": each[1]} for each in message["left"])
                    self.left += [(each[1], time.monotonic()) for each in message["left"]]

    def call(self, *call: object) -> object:
        with suppress(ConnectionError):
            self.socket.sendall(json.dumps(call).encode() + b"\n")
        wait_for(lambda: self._answers or self.has_ended, "an answer")
        return self._answers.pop() if self._answers else None

    @property
    def has_ended(self) -> bool:
        return not self.thread.is_alive()

    def clear(self) -> None:
        self.joined.clear()
        self.left.clear()


class Room:
    """members: one in each of four processes, of users 0 to 3."""

    def __init__(self, app: Served, ends: ExitStack) -> None:
        self.app = app
        self.ends = ends
        self.name = f"room.{next(NUMBERS)}"
        found: dict[object, Member] = {}
        for number in itertools.count():
            one = Member(app, "", f"{self.name} {number}", ends)
            if one.pid in found:
                one.close()
            else:
                found[one.pid] = one
            if len(found) == 4:
                break
        self.members = list(found.values())
        for each in self.members:
            each.call("join", self.name, each.uid)
        users = {each.uid for each in self.members}
        wait_for(lambda: users == set(self.members[0].joined), "the first has heard of all")
        wait_for(lambda: all(self.members[-1].uid in each.joined for each in self.members), "all")
        for each in self.members:
            each.clear()

    def enter(self, uid: str) -> Member:
        one = Member(self.app, self.name, uid, self.ends)
        self.members.append(one)
        return one

    def count(self) -> object:
        return self.members[0].call("count", self.name)

    def is_silent(self) -> bool:
        return not any(each.joined or each.left for each in self.members)


@pytest.fixture
def room(app: Served) -> Iterator[Room]:
    with ExitStack() as ends:
        yield Room(app, ends)


def kill(app: Served, broker: Server | None) -> None:
    """The broker loses its data, and is there again."""
    if broker is None:
        os.kill(app.status()["broker"]["pid"], signal.SIGKILL)
    else:
        broker.kill()
        broker.start()


def test_all_hear_who_comes_and_who_leaves(room: Room) -> None:
    before = list(room.members)
    one = room.enter("guest")
    wait_for(lambda: [each.joined for each in room.members] == [["guest"]] * 5, "the join")
    one.close()
    gone_at = time.monotonic()
    wait_for(lambda: room.count() == 4, "one less")
    assert time.monotonic() - gone_at < 1
    wait_for(lambda: all(each.left for each in before), "the leave")
    assert all(3 <= when - gone_at < 6 for each in before for _, when in each.left)
    assert [[uid for uid, _ in each.left] for each in before] == [["guest"]] * 4


def test_a_process_that_is_killed(room: Room) -> None:
    dead = room.members.pop()
    others = [room.enter("same process") for _ in range(8)]
    lost = {each.uid for each in others if each.pid == dead.pid}
    stay = {each.uid for each in others if each.pid != dead.pid}
    room.members = [each for each in room.members if each.pid != dead.pid]
    for each in room.members:
        each.clear()
    os.kill(int(str(dead.pid)), signal.SIGKILL)
    killed_at = time.monotonic()
    wait_for(lambda: room.count() == len(room.members), "its members are gone")
    assert room.members[0].call("is_online", dead.uid) is False
    assert time.monotonic() - killed_at < 1
    wait_for(lambda: all(each.left for each in room.members), "the leave")
    left = {dead.uid} | (lost - stay)
    for each in room.members:
        assert {uid for uid, _ in each.left} == left
        assert all(3 <= when - killed_at < 6 for _, when in each.left)
        assert each.joined in ([], ["same process"]), "it may have been on its way"
    assert room.members[0].call("is_online", room.members[1].uid) is True


def test_a_client_whose_connection_breaks_again_and_again(room: Room) -> None:
    for number in (0, 2, 3):
        uid = room.members[number].uid
        room.members.pop(number).close()
        time.sleep(1)
        room.members.insert(number, Member(room.app, room.name, uid, room.ends))
    time.sleep(4.5)
    assert room.is_silent()
    assert room.count() == 4


def test_a_reload_after_which_all_come_back(room: Room) -> None:
    old, is_over = list(room.members), threading.Event()
    processes = len(room.app.children())

    def come_back(number: int) -> None:  # perhaps to a process that has to go, too
        while not is_over.wait(0.01) or room.members[number].has_ended:
            if room.members[number].has_ended:
                room.members[number] = Member(room.app, room.name, old[number].uid, room.ends)

    threads = [threading.Thread(target=come_back, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    assert room.app.reload()["exit"] == 0
    wait_for(lambda: not set(old) & set(room.members), "all have come back")
    # the old processes leave within a second, and with each its connections
    wait_for(lambda: len(room.app.children()) == processes, "the old processes are gone")
    is_over.set()
    for each in threads:
        each.join(DEADLINE)
    assert not set(old) & set(room.members)
    time.sleep(4.5)
    assert room.is_silent()
    assert room.count() == 4


def test_a_reload_that_moves_the_connections(room: Room, broker: Server | None) -> None:
    name = f"{room.name} moves"
    with ExitStack() as ends:
        moved = [Member(room.app, name, f"moves {number}", ends, "moving") for number in range(8)]
        last = moved[-1].uid
        wait_for(lambda: all(last in each.joined for each in moved), "the joins")
        for each in moved:
            each.clear()
        pids = {each.call("pid") for each in moved}
        assert room.app.reload()["exit"] == 0
        assert not pids & {each.call("pid") for each in moved}
        assert moved[0].call("count", name) == 8
        time.sleep(4.5)
        kill(room.app, broker)
        wait_for(lambda: moved[0].call("count", name) == 8, "all are announced again")
        time.sleep(4.5)
        assert [(each.joined, each.left) for each in moved] == [([], [])] * 8
        assert moved[0].call("is_online", "moves 3") is True
        moved.pop().close()
        wait_for(lambda: all(each.left for each in moved), "the leave")


def test_a_broker_that_is_killed(room: Room, broker: Server | None) -> None:
    kill(room.app, broker)
    killed_at = time.monotonic()
    room.members.pop().close()
    room.members.pop().close()
    wait_for(lambda: room.count() == 2, "all are announced again")
    assert time.monotonic() - killed_at < 5
    new = room.enter("new")
    wait_for(lambda: all(each.left for each in room.members[:2]), "the leave")
    time.sleep(4.5)
    for each in room.members[:2]:
        assert each.joined == ["new"]
    assert new.joined == ["new"]
