"""What fails between the processes and their broker while clients publish and check numbers.

Each call ends within 2 s, connections stay, all is whole within 5 s of the return, and `on_gap` and
`recovered` tell the truth.
"""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from typing import Any

import places
import psutil
import pytest
from fault_proxy import FaultProxy, fault_proxy
from instance import DEADLINE, wait_for
from redis_servers import Server, redis_program, single
from serving import Served, serve

pytestmark = pytest.mark.timeout(120)

APP = places.app("under_faults")

MAX_CALL = 2.2
MAX_RETURN = 5.0
TRAFFIC = ("kept", "fleeting")


class Peer:
    """A client. got: all that it has received, in order, each with the time of its arrival."""

    def __init__(self, app: Served) -> None:
        self.socket = socket.create_connection(("127.0.0.1", app.port("room")), DEADLINE)
        self.got: list[dict[str, Any]] = []
        self.has_ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError), self.socket.makefile() as lines:
            for line in lines:
                self.got.append({**json.loads(line), "came": time.time()})
        self.has_ended = True

    def ask(self, *words: Any) -> dict[str, Any]:
        """The answer to a call."""
        before = len(self.answers)
        self.socket.sendall(json.dumps(words).encode() + b"\n")
        wait_for(lambda: len(self.answers) > before or self.has_ended, f"an answer to {words}")
        assert not self.has_ended, words
        answer = self.answers[before]
        assert answer["took"] < MAX_CALL, (words, answer)
        return answer

    @property
    def answers(self) -> list[dict[str, Any]]:
        return [each for each in list(self.got) if "did" in each]

    @property
    def gaps(self) -> list[dict[str, Any]]:
        return [each for each in list(self.got) if "gap" in each]

    @property
    def numbers(self) -> list[int]:
        return [each["n"] for each in list(self.got) if "n" in each]

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(DEADLINE)
        self.socket.close()


class Load:
    """A client that publishes numbers in a group. taken: those that were certainly published, and
    when."""

    def __init__(self, app: Served, group: str) -> None:
        self.peer = Peer(app)
        self.taken: dict[int, float] = {}
        self.failures: list[dict[str, Any]] = []
        self.problem: BaseException | None = None
        self._group = group
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._thread.start()

    def _publish(self) -> None:
        number = 0
        try:
            while not self._is_over.is_set():
                message = [number] if self._group.startswith("kept") else {"n": number}
                began = time.time()
                answer = self.peer.ask("publish", self._group, message)
                if "down" in answer or "refused" in answer:
                    self.failures.append(answer)
                else:
                    self.taken[number] = began
                number += 1
                time.sleep(0.003)
        except BaseException as problem:
            self.problem = problem

    def end(self) -> None:
        self._is_over.set()
        self._thread.join(DEADLINE)
        self.peer.close()
        if self.problem is not None:
            raise self.problem


class Crowd:
    """Members of two groups under load, over all processes."""

    def __init__(self, app: Served, name: str, ends: ExitStack) -> None:
        self.app = app
        self.groups = [f"{kind} {name}" for kind in TRAFFIC]
        self.seen = f"seen {name}"
        self.members = {
            group: [self._member(group, ends) for _ in range(4)] for group in self.groups
        }
        self.others = [ends.enter_context(closing(Peer(app))) for _ in range(3)]
        self.loads = {group: Load(app, group) for group in self.groups}
        wait_for(lambda: all(len(load.taken) > 20 for load in self.loads.values()), "load")

    def _member(self, group: str, ends: ExitStack) -> Peer:
        peer = ends.enter_context(closing(Peer(self.app)))
        peer.ask("join", group, None)
        peer.ask("enter", self.seen)
        return peer

    def use(self, seconds: float) -> None:
        """Call all kinds of things in the meantime: each has its bound."""

        def calls(peer: Peer, words: list[tuple[Any, ...]]) -> None:
            until = time.monotonic() + seconds
            try:
                while time.monotonic() < until:
                    for each in words:
                        peer.ask(*each)
                    time.sleep(0.02)
            except BaseException as error:
                problems.append(error)

        problems: list[BaseException] = []
        words: list[list[tuple[Any, ...]]] = [
            [("join", "other", None), ("leave", "other"), ("bind", "anna"), ("get", "k")],
            [("count", self.seen), ("members", self.seen), ("history", self.groups[0])],
            [("set", "k", 1), ("join", self.groups[0], "x"), ("send", "aaaaaaaaaaaaa.1", "x")],
        ]
        threads = [
            threading.Thread(target=calls, args=(peer, some))
            for peer, some in zip(self.others, words, strict=True)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        if problems:
            raise problems[0]

    def wait_whole(self) -> None:
        """Until every call works, and every member gets what is published from now on."""
        began = time.time()
        wait_for(
            lambda: (
                all(self._is_delivered(group, began) for group in self.groups)
                and self.others[0].ask("count", self.seen).get("result") == 8
            ),
            "whole traffic and 8 members",
            MAX_RETURN,
        )

    def _is_delivered(self, group: str, since: float) -> bool:
        fresh = [n for n, when in list(self.loads[group].taken.items()) if when > since]
        last = [peer.numbers[-1:] for peer in self.members[group]]
        return bool(fresh) and all(each >= fresh[:1] for each in last)

    def last_message(self) -> dict[str, Any]:
        """The last one that a member of the recoverable group has had until now."""
        got = list(self.members[self.groups[0]][0].got)
        return next(each for each in reversed(got) if "n" in each)

    def end(self, groups: Sequence[str] = ()) -> None:
        """Stop the load; look at what was received in these groups, or in all."""
        for load in self.loads.values():
            load.end()
        for group in groups or self.groups:
            load = self.loads[group]
            last = max(load.taken)
            for peer in self.members[group]:
                wait_for(lambda: peer.numbers and peer.numbers[-1] >= last, "the last")
                assert not peer.has_ended
                self._check(peer, group, load)

    def _check(self, peer: Peer, group: str, load: Load) -> None:
        numbers = peer.numbers
        assert numbers == sorted(set(numbers)), (group, "order")
        missing = [n for n in load.taken if n not in set(numbers)]
        gaps = [gap for gap in peer.gaps if group in gap["gap"]]
        for number in missing:
            when = load.taken[number]
            assert any(gap["since"] - 0.5 <= when <= gap["until"] + 0.1 for gap in gaps), (
                group,
                number,
                when,
                gaps,
                missing,
            )

    def check_return(self, position: str, after: int, group: str) -> bool:
        """A client comes back with its position. Whether it is recovered, which is the truth."""
        with closing(Peer(self.app)) as peer:
            answer = peer.ask("join", group, position)
            taken = [n for n in self.loads[group].taken if n > after]
            if answer["recovered"]:
                wait_for(lambda: set(peer.numbers) >= set(taken), "all that was missed")
            return bool(answer["recovered"])


@pytest.fixture
def clean(app: Served) -> Iterator[None]:
    start = len(app.read_log())
    yield
    log = app.read_log()[start:]
    assert "Traceback" not in log, log[-3000:]


class Redis:
    def __init__(self, server: Server, proxy: FaultProxy) -> None:
        self.server = server
        self.proxy = proxy


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    directory = tmp_path_factory.mktemp("redis")
    options = "--appendonly", "yes", "--appendfsync", "no"
    with single(directory, redis_program(), *options) as server, fault_proxy(server.port) as proxy:
        yield Redis(server, proxy)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, redis: Redis) -> Iterator[Served]:
    options = "--broker", redis.proxy.url, "--cluster-name", "faults", "-w", "2"
    with serve(tmp_path_factory, APP, *options) as one:
        yield one


def reset(redis: Redis, crowd: Crowd) -> None:
    for _ in range(5):
        redis.proxy.reset()
        crowd.use(0.2)


def faulty(fault: str, seconds: float) -> Callable[[Redis, Crowd], None]:
    def fail(redis: Redis, crowd: Crowd) -> None:
        redis.proxy.fault = fault
        try:
            crowd.use(seconds)
        finally:
            redis.proxy.fault = ""

    return fail


def refuse(redis: Redis, crowd: Crowd) -> None:
    redis.proxy.fault = "refuse"
    redis.proxy.reset()
    try:
        crowd.use(1.0)
    finally:
        redis.proxy.fault = ""


def hang(redis: Redis, crowd: Crowd) -> None:
    redis.server.stop()
    try:
        crowd.use(2.2)
    finally:
        redis.server.go_on()


def restart_with_data(redis: Redis, crowd: Crowd) -> None:
    redis.server.kill()
    crowd.use(0.5)
    redis.server.start()


def restart_without_data(redis: Redis, crowd: Crowd) -> None:
    redis.server.kill()
    shutil.rmtree(redis.server.directory / "appendonlydir")
    crowd.use(0.5)
    redis.server.start()


def fill(redis: Redis, crowd: Crowd) -> None:
    redis.server.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        crowd.use(0.6)
    finally:
        redis.server.ask("CONFIG", "SET", "maxmemory", 0)
    assert any("full" in each["refused"] for each in crowd.loads[crowd.groups[0]].failures)


@pytest.mark.parametrize(
    ("fail", "is_kept"),
    [
        pytest.param(reset, True, id="reset"),
        pytest.param(faulty("black hole", 2.2), True, id="black hole"),
        pytest.param(faulty("half-open", 2.2), True, id="half-open"),
        pytest.param(faulty("slow", 1.5), True, id="slow"),
        pytest.param(refuse, True, id="refuse"),
        pytest.param(hang, True, id="hang"),
        pytest.param(restart_with_data, True, id="with data"),
        pytest.param(restart_without_data, False, id="without data"),
        pytest.param(fill, True, id="full"),
    ],
)
def test_redis_fails(
    app: Served, redis: Redis, clean: None, request: pytest.FixtureRequest,
    fail: Callable[[Redis, Crowd], None], is_kept: bool,
) -> None:  # fmt: skip
    with ExitStack() as ends:
        crowd = Crowd(app, request.node.callspec.id, ends)
        group = crowd.groups[0]
        old = crowd.last_message()
        fail(redis, crowd)
        crowd.wait_whole()
        assert crowd.check_return(old["at"], old["n"], group) is is_kept
        crowd.end()


@pytest.fixture
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP, "-w", "2", "--timeout", "4") as one:
        yield one


def broker_of(app: Served) -> psutil.Process:
    return psutil.Process(app.status()["broker"]["pid"])


def test_local_broker_fails(local: Served) -> None:
    with ExitStack() as ends:
        crowd = Crowd(local, "killed", ends)
        group = crowd.groups[0]
        for _ in range(3):
            old = crowd.last_message()
            broker_of(local).kill()
            crowd.use(0.3)
            crowd.wait_whole()
            assert not crowd.check_return(old["at"], old["n"], group)
        crowd.end()
    with ExitStack() as ends:
        crowd = Crowd(local, "hangs", ends)
        group = crowd.groups[0]
        old = crowd.last_message()
        process = broker_of(local)
        process.suspend()
        crowd.use(2.4)
        process.resume()
        crowd.wait_whole()
        assert crowd.check_return(old["at"], old["n"], group)
        process.suspend()
        local.wait_log("hangs")
        crowd.wait_whole()
        crowd.end()
    assert "Traceback" not in local.read_log()


def test_reloads_while_redis_starts_again(app: Served, redis: Redis, clean: None) -> None:
    with ExitStack() as ends:
        crowd = Crowd(app, "reloads", ends)
        group = crowd.groups[0]
        for number in range(3):
            thread = threading.Timer(0.1 + 0.2 * number, restart_with_data, (redis, crowd))
            thread.start()
            assert app.reload() == {"exit": 0}
            thread.join()
            crowd.wait_whole()
        crowd.end([group])
        for peer in crowd.members[group]:
            assert set(peer.numbers) >= set(crowd.loads[group].taken), "what is kept is not lost"
            assert not any(group in each["gap"] for each in peer.gaps)


def test_handlers_that_fork(app: Served, clean: None) -> None:
    with ExitStack() as ends:
        crowd = Crowd(app, "forks", ends)
        for _ in range(5):
            assert [peer.ask("fork")["result"] for peer in crowd.others] == [0, 0, 0]
        crowd.end()
        assert not any(peer.gaps for each in crowd.members.values() for peer in each)
        assert not any(load.failures for load in crowd.loads.values())


def test_a_process_that_hangs_for_a_while(app: Served, clean: None) -> None:
    with ExitStack() as ends:
        crowd = Crowd(app, "stopped", ends)
        process = psutil.Process(app.workers("room")[0]["pid"])
        process.suspend()
        time.sleep(1.0)
        process.resume()
        crowd.wait_whole()
        crowd.end()


def test_all_processes_are_killed(app: Served) -> None:
    with ExitStack() as ends:
        first = ends.enter_context(closing(Peer(app)))
        at = first.ask("join", "kept killed", None)["at"]
        first.ask("enter", "seen killed")
        first.ask("publish", "kept killed", [1])
        for row in app.workers("room"):
            psutil.Process(row["pid"]).kill()
        killed_at = time.monotonic()
        second = ends.enter_context(closing(Peer(app)))
        assert second.ask("join", "kept killed", at)["recovered"] is True
        wait_for(lambda: second.numbers == [1], "what it missed")
        wait_for(lambda: second.ask("count", "seen killed")["result"] == 0, "no member is left")
        assert time.monotonic() - killed_at < MAX_RETURN
