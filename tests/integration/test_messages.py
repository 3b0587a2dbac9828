"""Messages over the processes of a running instance."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import places
import pytest
from instance import DEADLINE, wait_for
from serving import Client, Served, serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.timeout(120)

APP = places.app("messages")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP, "-w", "4") as one:
        yield one


class Peer:
    """A client that tells its process what to call."""

    def __init__(self, app: Served, ends: ExitStack) -> None:
        url = f"ws://127.0.0.1:{app.port('chat')}/"
        self.socket: ClientConnection = ends.enter_context(connect(url, open_timeout=DEADLINE))
        self.got: list[Any] = []

    def call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Its answer. What was received before that is in `got`."""
        self.socket.send(json.dumps([name, arguments, keywords]))
        while True:
            message = self.receive()
            if isinstance(message, str) and message.startswith('{"answer"'):
                return json.loads(message)["answer"]
            self.got.append(message)

    def receive(self) -> str | bytes:
        return self.socket.recv(DEADLINE)

    def next(self) -> str | bytes:
        return self.got.pop(0) if self.got else self.receive()


@pytest.fixture
def peers(app: Served) -> Iterator[list[Peer]]:
    """One in each process, in the order of the processes."""
    found: dict[int, Peer] = {}
    with ExitStack() as ends:
        while len(found) < 4:
            one = Peer(app, ends)
            found.setdefault(one.call("pid"), one)
        yield [found[pid] for pid in sorted(found)]


def test_a_chat_over_four_processes(peers: list[Peer]) -> None:
    for each in peers:
        assert each.call("join", "room") == [False, 0, ""]
    for number, each in enumerate(peers):
        published = each.call("publish", "room", f"from {number}")
        assert published == {"position": "", "receivers": 4}
    seen = [[each.next() for _ in peers] for each in peers]
    assert seen == [[f"from {number}" for number in range(4)]] * 4
    peers[0].call("publish", "room", {"b": 1, "a": [True]})
    assert [each.next() for each in peers] == ['{"a":[true],"b":1}'] * 4
    peers[1].call("publish", "room", "not to me", without_me=True)
    peers[1].call("leave", "room")
    peers[0].call("publish", "room", "last")
    assert [peers[number].next() for number in (0, 2, 3)] == ["not to me"] * 3
    assert [peers[number].next() for number in (0, 2, 3)] == ["last"] * 3
    assert peers[1].call("groups") == []
    assert peers[1].got == []


def test_one_order_for_all(peers: list[Peer]) -> None:
    for each in peers:
        each.call("join", "busy")
    for number in range(25):
        for each in peers:
            each.socket.send(json.dumps(["publish", ["busy", f"{id(each)} {number}"], {}]))
    seen = []
    for each in peers:
        ours = []
        while len(ours) < 100:
            message = each.receive()
            if not message.startswith('{"answer"'):
                ours.append(message)
        seen.append(ours)
    assert all(each == seen[0] for each in seen)
    assert len(set(seen[0])) == 100


def test_users_on_several_devices(peers: list[Peer]) -> None:
    for each in peers[:3]:
        each.call("bind", "anna")
    assert peers[3].call("send_to_user", "anna", "hello") == 3
    assert [each.next() for each in peers[:3]] == ["hello"] * 3
    assert peers[3].call("is_online", "anna")
    assert len(peers[3].call("connections", "anna")) == 3
    peers[1].call("bind", "anna", single=True)
    for each in (peers[0], peers[2]):
        with pytest.raises(ConnectionClosed) as closed:
            each.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4001
    wait_for(lambda: len(peers[3].call("connections", "anna")) == 1, "one connection")
    assert peers[1].call("uid") == "anna"


def test_one_connection_from_anywhere(peers: list[Peer]) -> None:
    name = peers[0].call("id")
    assert [each.call("send", name, "x") for each in peers] == [True] * 4
    assert [peers[0].next() for _ in peers] == ["x"] * 4
    peers[1].call("join_from", "far", connection=name)
    wait_for(lambda: peers[0].call("groups") == ["far"], "the group")
    peers[2].call("close", connection=name, code=4000, reason="go")
    with pytest.raises(ConnectionClosed) as closed:
        peers[0].receive()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "go")
    wait_for(lambda: peers[0].socket.state.name == "CLOSED", "closed")
    assert peers[1].call("send", name, "x") is True, "its process is there"


def test_everybody(app: Served, peers: list[Peer]) -> None:
    with Client(app, "lines") as line:
        line.send('["pid", [], {}]\n')
        assert line.line().startswith('{"answer"')
        peers[0].call("broadcast", "to all")
        peers[1].call("broadcast", "to chats", worker="chat")
        peers[1].call("broadcast", "to lines", worker="lines")
        assert [each.next() for each in peers] == ["to all"] * 4
        assert [each.next() for each in peers] == ["to chats"] * 4
        assert [line.line(), line.line()] == ["to all", "to lines"]


def test_functions_in_each_process(peers: list[Peer]) -> None:
    peers[0].call("publish", "audit", {"n": 1})
    peers[1].call("publish", "audit", "two")
    for each in peers:
        wait_for(lambda: each.call("heard") == [{"n": 1}, "two"], "what was published")


def test_presence_ends_with_the_connection(peers: list[Peer]) -> None:
    for number, each in enumerate(peers):
        each.call("join", "seen.1", presence={"n": number})
    found = peers[0].call("members", "seen.1")
    assert sorted(each[2]["n"] for each in found) == [0, 1, 2, 3]
    peers[3].socket.close()
    wait_for(lambda: peers[0].call("count", "seen.1") == 3, "one has left")
    assert peers[0].call("count", "room").startswith("ValueError: ")


def test_what_is_kept(peers: list[Peer]) -> None:
    first = peers[0].call("publish", "kept.1", "a")
    peers[1].call("publish", "kept.1", "b")
    found = peers[2].call("history", "kept.1")
    assert [each[1] for each in found] == ["a", "b"]
    assert found[0][0] == first["position"]
    assert peers[3].call("history", "kept.1", since=first["position"]) == found[1:]
    assert peers[3].call("join", "kept.1")[2] == peers[0].call("position", "kept.1")


def test_shared_data(peers: list[Peer]) -> None:
    peers[0].call("set", "k", {"x": 1})
    assert [each.call("get", "k") for each in peers] == [{"x": 1}] * 4
    assert [each.call("increment", "n") for each in peers] == [1, 2, 3, 4]


def test_who_cannot_join(app: Served) -> None:
    with Client(app, "web") as client:
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.until(b"\r\n\r\n")
        assert b"cannot join a group" in client.until(b"user")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE)
        client.sendto(b"x", ("127.0.0.1", app.port("dgram")))
        assert b"cannot join the group 'room'" in client.recv(1000)


def test_the_state_of_the_broker(peers: list[Peer]) -> None:
    assert [each.call("state") for each in peers] == ["up"] * 4
