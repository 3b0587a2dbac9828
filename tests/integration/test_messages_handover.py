"""Members of groups that move to other processes while messages are published: each gets each
message once, in order, and no member sees them go."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import places
import pytest
from instance import wait_for
from serving import Served, serve
from websocket_bytes import handshake

from gworker import Publisher

pytestmark = pytest.mark.timeout(180)

APP = places.app("moving_members")

MEMBERS = 300
GROUPS = 10
RATE = 200  # messages a second
RELOADS = 5


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP, "-w", "2") as one:
        yield one


class Member:
    """A WebSocket that sorts what it hears: numbers by the word before them, and answers."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.number = number
        self.heard: defaultdict[str, list[int]] = defaultdict(list)
        self.answers: list[str] = []
        self.close_code: int | None = None
        self._buffer = bytearray()
        self._is_open = False
        self.socket = socket.create_connection(("127.0.0.1", crowd.port), 60)
        self.socket.sendall(handshake())
        self.crowd = crowd
        crowd.selector.register(self.socket, selectors.EVENT_READ, self)

    def read(self) -> None:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            self.crowd.selector.unregister(self.socket)
            return
        self._buffer += data
        if not self._is_open:
            head, mark, rest = self._buffer.partition(b"\r\n\r\n")
            if not mark:
                return
            assert b" 101 " in head
            self._is_open, self._buffer = True, bytearray(rest)
        while len(self._buffer) >= 2 and len(self._buffer) >= 2 + self._buffer[1]:
            payload = bytes(self._buffer[2 : 2 + self._buffer[1]])
            kind = self._buffer[0]
            del self._buffer[: 2 + self._buffer[1]]
            if kind == 0x88:
                self.close_code = int.from_bytes(payload[:2], "big")
            else:
                self._take(payload.decode())

    def _take(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if rest.isdigit() and word != "pid":
            self.heard[word].append(int(rest))
        else:
            self.answers.append(text)

    def send(self, text: str) -> None:
        data = text.encode()
        mask = b"\1\2\3\4"
        masked = bytes(byte ^ mask[i & 3] for i, byte in enumerate(data))
        self.socket.sendall(bytes([0x81, 0x80 | len(data)]) + mask + masked)

    def ask(self, text: str) -> str:
        before = len(self.answers)
        self.send(text)
        wait_for(lambda: len(self.answers) > before, f"an answer to {text}")
        return self.answers[-1]


class Crowd:
    """Members, read by one thread."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.selector = selectors.DefaultSelector()
        self.members: list[Member] = []
        self.is_over = False
        self.thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        while not self.is_over:
            for key, _ in self.selector.select(0.05):
                key.data.read()

    def add(self, count: int) -> list[Member]:
        made = [Member(self, len(self.members) + each) for each in range(count)]
        self.members += made
        return made


@contextmanager
def crowd(app: Served, name: str, count: int) -> Iterator[Crowd]:
    one = Crowd(app.port(name))
    one.add(count)
    one.thread.start()
    try:
        yield one
    finally:
        one.is_over = True
        one.thread.join()
        for each in one.members:
            each.socket.close()
        one.selector.close()


class Publishing(threading.Thread):
    """Publishes numbered messages until it is told to stop. sent: how many to each."""

    def __init__(self, publisher: Publisher, groups: list[str], rate: float, **names: str) -> None:
        super().__init__()
        self.sent: dict[str, int] = defaultdict(int)
        self.failed: list[Exception] = []
        self.is_over = False
        self._publisher = publisher
        self._groups = groups
        self._names = names
        self._pause = 1 / rate

    def run(self) -> None:
        turn = 0
        begun = time.monotonic()
        try:
            while not self.is_over:
                for word in self._due(turn):
                    self._publish(word, f"{word} {self.sent[word]}")
                    self.sent[word] += 1
                turn += 1
                time.sleep(max(0.0, begun + turn * self._pause - time.monotonic()))
        except Exception as error:
            self.failed.append(error)

    def _due(self, turn: int) -> list[str]:
        words = [self._groups[turn % len(self._groups)]]
        if turn % 10 == 0:
            words += self._names
        return words

    def _publish(self, word: str, text: str) -> None:
        if word == "user":
            self._publisher.send_to_user(self._names[word], text)
        elif word == "one":
            assert self._publisher.send(self._names[word], text)
        elif word == "all":
            self._publisher.broadcast(text, worker=self._names[word])
        else:
            self._publisher.publish(word, text)


def publisher_of(app: Served) -> Publisher:
    return Publisher("local", cluster="app", runtime_dir=str(app.runtime))


def group_of(member: Member) -> str:
    kinds = ("seen", "kept", "free")
    number = member.number % GROUPS
    return f"{kinds[number % 3]}.{number}"


def told(app: Served) -> list[str]:
    """What the app has recorded of presence and gaps."""
    return [
        line
        for line in (app.directory / "events").read_text().splitlines()
        if line.startswith(("seen", "gap"))
    ]


def settled(app: Served) -> int:
    """Wait until the joins of the members are told; return how many events there were."""
    count = -1
    while count != (count := len(told(app))):
        time.sleep(4.5)  # leaves are told after three seconds
    return count


def expect_all(members: list[Member], sent: dict[str, int], words: list[str]) -> None:
    """Wait until the members have heard all; each must have heard each number once, in order."""
    for word in words:
        complete = list(range(sent[word]))
        for each in members:
            wait_for(
                lambda each=each, word=word: len(each.heard[word]) >= sent[word],
                f"all of {word}",
                5,
            ) if each.heard[word][-1:] != [sent[word] - 1] else None
            heard = each.heard[word]
            assert heard == complete, (
                f"{word} of member {each.number}: "
                f"lost {sorted(set(complete) - set(heard))[:20]}, "
                f"doubled {sorted({one for one in heard if heard.count(one) > 1})[:20]}"
            )


def test_nothing_is_lost_doubled_or_reordered_over_reloads(app: Served) -> None:
    with crowd(app, "members", MEMBERS) as one, publisher_of(app) as publisher:
        for each in one.members:
            each.send(f"join {group_of(each)}")
        wait_for(lambda: all(each.answers for each in one.members), "all have joined")
        for each in one.members[:50]:
            assert each.ask("bind anna") == "done"
        named = one.members[1]
        name = named.ask("name").split()[1]
        before = settled(app)
        groups = sorted({group_of(each) for each in one.members})
        counts = {each: publisher_of_count(publisher, each) for each in groups}
        publishing = Publishing(publisher, groups, RATE, user="anna", one=name, all="members")
        publishing.start()
        try:
            replies = [app.reload() for _ in range(RELOADS)]
            time.sleep(0.5)
        finally:
            publishing.is_over = True
            publishing.join()
        assert [reply["exit"] for reply in replies] == [0] * RELOADS
        assert not publishing.failed
        assert app.status()["last_reload"]["handed_over"] == MEMBERS
        sent = publishing.sent
        assert sent["all"] > RELOADS * 5
        for group in groups:
            expect_all([each for each in one.members if group_of(each) == group], sent, [group])
        expect_all(one.members[:50], sent, ["user"])
        expect_all([named], sent, ["one"])
        expect_all(one.members, sent, ["all"])
        assert all(
            set(each.heard) <= {group_of(each), "user", "one", "all"} for each in one.members
        )
        time.sleep(4)  # leaves are told after three seconds
        assert told(app)[before:] == []
        assert counts == {each: publisher_of_count(publisher, each) for each in groups}
        assert named.ask("state") == f"state anna {name} {group_of(named)}"
        assert publisher.is_online("anna")
        assert len(publisher.connections("anna")) == 50


def publisher_of_count(publisher: Publisher, group: str) -> int | None:
    return publisher.count(group) if group.startswith("seen.") else None


def test_those_that_join_and_leave_meanwhile(app: Served) -> None:
    """They know when their answer comes from when on they hear all, and until when."""
    with crowd(app, "members", 40) as one, publisher_of(app) as publisher:
        publishing = Publishing(publisher, ["free.x"], RATE)
        publishing.start()
        reloading = threading.Thread(target=lambda: [app.reload() for _ in range(3)])
        reloading.start()
        rounds = 0
        try:
            while reloading.is_alive():
                for each in one.members:
                    each.send("join free.x")
                time.sleep(0.3)
                for each in one.members[::2]:
                    each.send("leave free.x")
                time.sleep(0.1)
                rounds += 1
            time.sleep(0.5)
        finally:
            reloading.join()
            publishing.is_over = True
            publishing.join()
        assert not publishing.failed
        sent = publishing.sent["free.x"]
        for each in one.members[1::2]:
            wait_for(lambda each=each: each.heard["free.x"][-1] == sent - 1, "the last one")
            heard = each.heard["free.x"]
            assert heard == list(range(heard[0], sent)), f"member {each.number}"
        for each in one.members[::2]:
            heard = each.heard["free.x"]
            assert heard == sorted(set(heard)), f"member {each.number}"
        assert rounds > 2


def test_scaling_down_and_up(app: Served) -> None:
    with crowd(app, "members", 60) as one, publisher_of(app) as publisher:
        for each in one.members:
            each.send("join free.s kept.s")
        wait_for(lambda: all(each.answers for each in one.members), "all have joined")
        publishing = Publishing(publisher, ["free.s", "kept.s"], RATE)
        publishing.start()
        try:
            for count in ("4", "1", "2"):
                assert app.run("scale", "members", count).returncode == 0
                wait_for(lambda count=count: len(app.workers("members")) == int(count), "scaled")
                time.sleep(0.5)
        finally:
            publishing.is_over = True
            publishing.join()
        assert not publishing.failed
        expect_all(one.members, publishing.sent, ["free.s", "kept.s"])


def test_without_handover_they_are_closed_politely_and_come_back(app: Served) -> None:
    with crowd(app, "stays", 10) as one, publisher_of(app) as publisher:
        for each in one.members:
            each.send("join free.t")
        wait_for(lambda: all(each.answers for each in one.members), "all have joined")
        assert app.reload()["exit"] == 0
        wait_for(lambda: all(each.close_code for each in one.members), "closed")
        assert {each.close_code for each in one.members} == {1012}
        again = one.add(10)
        for each in again:
            assert each.ask("join free.t") == "done"
        publisher.publish("free.t", "free.t 0")
        for each in again:
            wait_for(lambda each=each: each.heard["free.t"] == [0], "a message")
