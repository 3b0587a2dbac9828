"""What fails between the processes and their broker while clients publish and check numbers.

Each call ends within 2 s, connections stay, all is whole within 5 s of the return, and `on_gap` and
`recovered` tell the truth (`crowds`).
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import psutil
import pytest
from crowds import APP, MAX_RETURN, Crowd, Peer
from fault_proxy import FaultProxy, fault_proxy, unix_fault_proxy
from instance import wait_for
from redis_servers import Server, redis_program, single
from serving import Served, serve

pytestmark = pytest.mark.timeout(120)

PASSWORD = "--requirepass", "one"


class Redis:
    """A Redis, an instance that uses it, and the way between them."""

    def __init__(self, server: Server, proxy: FaultProxy, app: Served) -> None:
        self.server = server
        self.proxy = proxy
        self.app = app


class Local:
    """An instance with its own broker, and the way to that."""

    def __init__(self, proxy: FaultProxy, app: Served) -> None:
        self.proxy = proxy
        self.app = app

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.app.status()["broker"]["pid"])


Fail = Callable[[Any, Crowd], None]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    directory = tmp_path_factory.mktemp("redis")
    options = "--appendonly", "yes", "--appendfsync", "no"
    with single(directory, redis_program(), *options) as server, fault_proxy(server.port) as proxy:
        server.kill()
        server.password = "one"
        server.start(*PASSWORD)
        url = proxy.url.replace("//", "//:one@")
        options = "--broker", url, "--cluster-name", "faults", "-w", "2"
        with serve(tmp_path_factory, APP, *options) as app:
            yield Redis(server, proxy, app)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with serve(tmp_path_factory, APP, "-w", "2", "--timeout", "4") as app:
        [target] = app.runtime.glob("*.broker")
        with unix_fault_proxy(str(app.directory / "proxy"), str(target)) as proxy:
            assert app.reload() == {"exit": 0}, "the next processes go through the proxy"
            yield Local(proxy, app)


@pytest.fixture
def app(redis: Redis) -> Served:
    return redis.app


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """No exception is logged in a test."""
    kind = "local" if "local" in request.fixturenames else "redis"
    app = request.getfixturevalue(kind).app
    start = len(app.read_log())
    yield
    log = app.read_log()[start:]
    assert "Traceback" not in log, log[-3000:]


# -- what fails on the way, and how it ends: with the return of the broker


def reset(site: Any, crowd: Crowd) -> None:
    for _ in range(5):
        site.proxy.reset()
        crowd.use(0.2)


def faulty(fault: str, seconds: float) -> Fail:
    def fail(site: Any, crowd: Crowd) -> None:
        site.proxy.fault = fault
        try:
            crowd.use(seconds)
        finally:
            site.proxy.fault = ""

    return fail


def flooded(fault: str) -> Fail:
    """More is published than all buffers on the way take."""

    def fail(site: Any, crowd: Crowd) -> None:
        for peer in crowd.others:
            peer.ask("join", "large", None)
        site.proxy.fault = fault
        try:
            assert crowd.others[0].ask("flood", "large")["result"]
            crowd.use(0.5)
        finally:
            site.proxy.fault = ""

    return fail


def refuse(site: Any, crowd: Crowd) -> None:
    site.proxy.fault = "refuse"
    site.proxy.reset()
    try:
        crowd.use(1.0)
    finally:
        site.proxy.fault = ""


def hang(redis: Redis, crowd: Crowd) -> None:
    redis.server.stop()
    try:
        crowd.use(2.2)
    finally:
        redis.server.go_on()


def restart_with_data(redis: Redis, crowd: Crowd) -> None:
    redis.server.kill()
    crowd.use(0.5)
    redis.server.start(*PASSWORD)


def restart_without_data(redis: Redis, crowd: Crowd) -> None:
    redis.server.kill()
    shutil.rmtree(redis.server.directory / "appendonlydir")
    crowd.use(0.5)
    redis.server.start(*PASSWORD)


def restart_with_another_password(redis: Redis, crowd: Crowd) -> None:
    redis.server.kill()
    redis.server.start("--requirepass", "another")
    crowd.use(1.5)
    assert all("password" in each["down"] for each in crowd.failures()[-2:])
    redis.server.kill()
    redis.server.start(*PASSWORD)


def fill(redis: Redis, crowd: Crowd) -> None:
    redis.server.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        crowd.use(0.6)
    finally:
        redis.server.ask("CONFIG", "SET", "maxmemory", 0)
    assert any("full" in each["refused"] for each in crowd.loads[crowd.groups[0]].failures)


def hang_locally(local: Local, crowd: Crowd) -> None:
    process = local.process
    process.suspend()
    try:
        crowd.use(2.2)
    finally:
        process.resume()


def hang_until_it_is_replaced(local: Local, crowd: Crowd) -> None:
    local.process.suspend()
    local.app.wait_log("hangs")


def kill(local: Local, crowd: Crowd) -> None:
    local.process.kill()
    crowd.use(0.3)


WAYS = [
    pytest.param(reset, True, False, id="reset"),
    pytest.param(faulty("black hole", 2.2), True, True, id="black hole"),
    pytest.param(faulty("half-open", 2.2), True, True, id="half-open"),
    pytest.param(faulty("slow", 1.5), True, False, id="slow"),
    pytest.param(faulty("trickle", 1.5), True, False, id="trickle"),
    pytest.param(flooded("black hole"), True, True, id="full buffers"),
    pytest.param(flooded("stuck"), True, True, id="answers stuck"),
    pytest.param(refuse, True, True, id="refuse"),
]
"""What fails; whether what is kept is there afterwards; and whether the broker is away for so long
that all processes notice."""


@pytest.mark.parametrize(
    ("fail", "is_kept", "is_down"),
    [
        *WAYS,
        pytest.param(hang, True, True, id="hang"),
        pytest.param(restart_with_data, True, True, id="with data"),
        pytest.param(restart_without_data, False, True, id="without data"),
        pytest.param(restart_with_another_password, True, True, id="another password"),
        pytest.param(fill, True, False, id="full"),
    ],
)
def test_redis_fails(
    redis: Redis, request: pytest.FixtureRequest, fail: Fail, is_kept: bool, is_down: bool
) -> None:
    check(redis, request.node.callspec.id, fail, is_kept, is_down)


@pytest.mark.parametrize(
    ("fail", "is_kept", "is_down"),
    [
        *WAYS,
        pytest.param(hang_locally, True, True, id="hang"),
        pytest.param(hang_until_it_is_replaced, False, False, id="replaced"),
        pytest.param(kill, False, False, id="killed"),
    ],
)
def test_local_broker_fails(
    local: Local, request: pytest.FixtureRequest, fail: Fail, is_kept: bool, is_down: bool
) -> None:
    check(local, request.node.callspec.id, fail, is_kept, is_down)


def check(site: Any, name: str, fail: Fail, is_kept: bool, is_down: bool) -> None:
    with ExitStack() as ends:
        crowd = Crowd(site.app, name, ends)
        group = crowd.groups[0]
        old = crowd.last_message()
        fail(site, crowd)
        crowd.wait_whole()
        wait_for(crowd.knows_that_it_is_up, "all are told that it is up", MAX_RETURN)
        assert crowd.check_return(old["at"], old["n"], group) is is_kept
        crowd.end(whole=[group] if is_kept else [])
        if is_down:
            assert crowd.was_told("down")


def test_reloads_while_redis_starts_again(app: Served, redis: Redis) -> None:
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


def test_handlers_that_fork(app: Served) -> None:
    with ExitStack() as ends:
        crowd = Crowd(app, "forks", ends)
        for _ in range(5):
            assert [peer.ask("fork")["result"] for peer in crowd.others] == [0, 0, 0]
        crowd.end()
        assert not any(peer.gaps for each in crowd.members.values() for peer in each)
        assert not any(load.failures for load in crowd.loads.values())


def test_a_process_that_hangs_for_a_while(app: Served) -> None:
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
