"""RedisBroker with all that can happen to its servers and to the way to them."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis_servers
from broker_process import Process
from broker_servers import chosen
from fault_proxy import FaultProxy, fault_proxy
from pki import Pki
from redis_servers import Server

from gworker.broker.redis import lease, subscriptions
from gworker.broker.redis.broker import RedisBroker
from gworker.broker.redis.check import examine
from gworker.broker.redis.partitions import PARTITIONS, SLOT_OF_PARTITION, partition_of
from gworker.broker.url import parse
from gworker.errors import BrokerDown, BrokerError

Connect = Callable[..., Process]
ROOM = b"g:room"
ROOMS = [b"g:room %d" % number for number in range(300)]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """`connect(url)`: one more process with a broker there."""
    made: list[RedisBroker] = []

    def connect(url: str, wait: float = 5, cluster: str = "test") -> Process:
        made.append(RedisBroker(parse(url), cluster, "here"))
        return Process(made[-1], wait)

    yield connect
    for broker in made:
        broker.close()


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Server]:
    with redis_servers.single(tmp_path, redis_servers.redis_program()) as server:
        yield server


@pytest.fixture
def proxy(single: Server) -> Iterator[FaultProxy]:
    with fault_proxy(single.port) as proxy:
        yield proxy


def needs(request: pytest.FixtureRequest, kind: str) -> None:
    if kind not in chosen(request.config.getoption("--brokers")):
        pytest.skip(f"only with --brokers {kind}")


def fault_of(url: str) -> str:
    with pytest.raises(BrokerError) as refused:
        examine(parse(url), "test")
    return str(refused.value)


def enter(process: Process, room: bytes, member: bytes, holder: bytes = b"") -> object:
    return process.call("enter", room, holder or process.name, b"", member, member, b"", b"1")


def hears_all(process: Process, rooms: list[bytes], publisher: Process) -> bool:
    """What is published on each of them arrives."""
    token = b"%d" % time.monotonic_ns()
    for room in rooms:
        publisher.call("publish", room, token)
    try:
        process.wait_for(lambda: all(b"\0" + token in process.payloads(r)[-1:] for r in rooms), 3)
    except AssertionError:
        return False
    return True


def comes_true(condition: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except BrokerDown:
            pass
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


# -- what is not fit


def test_a_server_that_is_fit(single: Server) -> None:
    assert re.fullmatch(r"Redis [\d.]+, 1 master", examine(parse(single.url), "test"))


def test_nobody_listens(connect: Connect) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{taken.getsockname()[1]}"
        fault = fault_of(url)
        assert "refused" in fault
        begin = time.monotonic()
        with pytest.raises(BrokerDown, match="refused"):
            connect(url, wait=0.5)
        assert time.monotonic() - begin < 1


@pytest.mark.parametrize(
    ("credentials", "words"), [("", "wants a password"), (":wrong-word@", "refuses the user")]
)
def test_a_wrong_password(tmp_path: Path, connect: Connect, credentials: str, words: str) -> None:
    program = redis_servers.redis_program()
    with redis_servers.single(tmp_path, program, "--requirepass", "secret-word") as server:
        url = server.url.replace("//", "//" + credentials)
        fault = fault_of(url)
        assert words in fault
        with pytest.raises(BrokerError, match=words) as refused:
            connect(url)
        assert "wrong-word" not in f"{fault}{refused.value}"
        right = connect(server.url.replace("//", "//:secret-word@"))
        assert right.broker.state == "up"
        right.subscribe(ROOM)
        assert hears_all(right, [ROOM], right)


def test_another_number_of_partitions(single: Server, connect: Connect) -> None:
    connect(single.url).broker.close()
    [key] = single.ask("KEYS", "gw:test:*:conf")
    single.ask("HSET", key, "partitions", 64)
    fault = fault_of(single.url)
    assert "64 partitions" in fault
    with pytest.raises(BrokerError, match="64 partitions"):
        connect(single.url)
    assert "1 master" in examine(parse(single.url), "another")


def test_a_unix_socket(tmp_path: Path, connect: Connect) -> None:
    path = tmp_path / "redis.sock"
    with redis_servers.single(tmp_path, redis_servers.redis_program(), "--unixsocket", str(path)):
        process = connect(f"redis+unix://{path}")
        process.subscribe(*ROOMS)
        assert hears_all(process, ROOMS, process)


def test_tls(tmp_path: Path, pki: Pki, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    options = redis_servers.with_tls(*pki.issue("redis", "localhost", "127.0.0.1"), pki.ca)
    with redis_servers.single(tmp_path, redis_servers.redis_program(), *options) as server:
        url = f"rediss://localhost:{server.tls_port}"
        assert "certificate" in fault_of(url)
        monkeypatch.setenv("SSL_CERT_FILE", pki.ca)
        assert "1 master" in examine(parse(url), "test")
        process = connect(url)
        process.subscribe(*ROOMS)
        assert hears_all(process, ROOMS, process)


@pytest.fixture
def tls_options(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("SSL_CERT_FILE", pki.ca)
    return redis_servers.with_tls(*pki.issue("redis", "localhost", "127.0.0.1"), pki.ca)


# The module ssl leaves a socket open if the server is killed during a handshake.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_to_sentinels_and_what_they_watch(
    request: pytest.FixtureRequest, tmp_path: Path, connect: Connect, tls_options: list[str]
) -> None:
    needs(request, "sentinel")
    with redis_servers.watched(tmp_path, redis_servers.redis_program(), tls_options) as servers:
        assert "1 master" in examine(parse(servers.tls_url), "test")
        process = connect(servers.tls_url)
        process.subscribe(*ROOMS)
        assert hears_all(process, ROOMS, process)
        servers.master.kill()
        comes_true(lambda: process.broker.state == "down", 3)
        comes_true(lambda: process.call("publish", ROOMS[0], b"a") == 1, 20)
        assert hears_all(process, ROOMS, process)


def test_tls_to_a_cluster(
    request: pytest.FixtureRequest, tmp_path: Path, connect: Connect, tls_options: list[str]
) -> None:
    needs(request, "cluster")
    program = redis_servers.redis_program()
    with redis_servers.cluster(tmp_path, program, options=tls_options) as servers:
        assert "3 masters" in examine(parse(servers.tls_url), "test")
        process = connect(servers.tls_url)
        process.subscribe(*ROOMS)
        assert hears_all(process, ROOMS, process)
        slot = SLOT_OF_PARTITION[partition_of(ROOMS[0])]
        source = servers.owner_of(slot)
        servers.move_slot(slot, next(n for n in servers.nodes if n is not source))
        comes_true(lambda: hears_all(process, ROOMS, process), 5)
        process.broker.close()


# -- names and leases


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_MS", 600)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.2)


@pytest.mark.usefixtures("short_leases")
def test_a_process_of_a_dead_machine_is_reaped_after_two_terms(
    single: Server, connect: Connect
) -> None:
    process, _ = connect(single.url), connect(single.url)
    process.call("renew", b"", b"dead", 600)
    begin = time.monotonic()
    enter(process, ROOM, b"m", b"dead")
    comes_true(lambda: not single.ask("KEYS", "*:w:dead"), 5)
    assert time.monotonic() - begin > 1.2
    assert single.ask("KEYS", "*:p:*") == []


@pytest.mark.usefixtures("short_leases")
def test_when_most_leases_have_run_out_they_are_given_a_term_more(
    single: Server, connect: Connect
) -> None:
    process = connect(single.url)
    for number in range(5):
        process.call("renew", b"", b"dead %d" % number, 600)
        enter(process, ROOM, b"m%d" % number, b"dead %d" % number)
    time.sleep(1.5)
    assert process.call("count", ROOM) == 0, "they are hidden"
    [key] = single.ask("KEYS", "*:pi:*")
    early = single.ask("HLEN", key)
    comes_true(lambda: not single.ask("KEYS", "*:pi:*"), 5)
    assert early == 5


def test_a_copy_lets_go(single: Server, connect: Connect) -> None:
    process = connect(single.url)
    process.subscribe(ROOM)
    if (pid := os.fork()) == 0:
        process.broker.let_go()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert hears_all(process, [ROOM], process)
    assert process.broker.state == "up"


def test_the_members_of_a_dead_sibling_are_removed_at_once(
    single: Server, connect: Connect
) -> None:
    process = connect(single.url)
    dead = b"here.123456.0a"
    for name in (dead, b"other.123456.0a", b"here.12345.0a"):
        process.call("renew", b"", name, 60000)
        enter(process, ROOM, b"m " + name, name)
    assert process.broker.process_died(123456) == 1
    assert process.broker.process_died(os.getpid()) == 0
    assert sorted(each[0] for each in process.call("members", ROOM, 0)) == [
        b"m here.12345.0a",
        b"m other.123456.0a",
    ]


def test_a_process_that_closes_leaves_no_trace(single: Server, connect: Connect) -> None:
    process = connect(single.url)
    process.subscribe(ROOM)
    enter(process, ROOM, b"m")
    process.broker.close()
    kept = [key.partition("}:")[2] for key in single.ask("KEYS", "*")]
    assert sorted(kept) == ["conf", "lv", "lw"], "only that it has left"
    comes_true(lambda: single.ask("CLIENT", "LIST").count("\n") == 1, 2)


def test_a_process_without_its_lease_has_another_name(
    proxy: FaultProxy, single: Server, connect: Connect
) -> None:
    process, other = connect(proxy.url), connect(single.url)
    before = process.name
    enter(process, ROOM, b"m")
    single.ask("ZREM", *single.ask("KEYS", "gw:test:*:workers"), before)
    assert other.call("count", ROOM) == 0
    proxy.reset()
    process.wait_for(lambda: process.fenced)
    assert process.name != before
    comes_true(lambda: not single.ask("KEYS", f"*:w:{before.decode()}"), 5)


# -- faults on the way


def test_a_reset_is_a_break_of_moments(proxy: FaultProxy, single: Server, connect: Connect) -> None:
    process, other = connect(proxy.url), connect(single.url)
    process.subscribe(*ROOMS)
    assert hears_all(process, ROOMS, other)
    before = time.time()
    proxy.reset()
    process.wait_for(lambda: process.interrupted)
    comes_true(lambda: process.broker.state == "up", 5)
    assert hears_all(process, ROOMS, other)
    named = [room for rooms, _, _ in process.interrupted for room in rooms]
    assert sorted(named) == sorted(ROOMS)
    assert all(since <= before + 0.1 and since <= until for _, since, until in process.interrupted)
    assert process.fenced == 0


@pytest.mark.parametrize("fault", ["black hole", "half-open"])
def test_a_call_ends_within_two_seconds(proxy: FaultProxy, connect: Connect, fault: str) -> None:
    process = connect(proxy.url)
    process.subscribe(ROOM)
    time.sleep(0.3)
    process.call("publish", ROOM, b"before")
    proxy.fault = fault
    begin = time.monotonic()
    with pytest.raises(BrokerDown) as down:
        process.call("publish", ROOM, b"a")
    assert time.monotonic() - begin < 2
    assert down.value.uncertain
    comes_true(lambda: process.broker.state == "down", 3)
    begin = time.monotonic()
    with pytest.raises(BrokerDown) as down:
        process.call("publish", ROOM, b"b")
    assert time.monotonic() - begin < 0.1, "it is known to be down"
    assert not down.value.uncertain
    process.broker.post("publish", ROOM, b"dropped")
    with pytest.raises(BrokerDown):
        process.subscribe(b"g:wanted all the same")
    proxy.fault = ""
    proxy.reset()
    comes_true(lambda: process.broker.state == "up", 5)
    comes_true(lambda: hears_all(process, [ROOM, b"g:wanted all the same"], process), 5)
    assert b"\0dropped" not in process.payloads(ROOM)


def test_a_slow_way(proxy: FaultProxy, connect: Connect) -> None:
    process = connect(proxy.url)
    process.subscribe(ROOM)
    process.call("set", b"d:k", b"v" * 1000, 0)
    proxy.fault = "slow"
    assert process.call("publish", ROOM, b"a") == 1
    process.wait_for_payloads(ROOM, 1)
    proxy.fault = "trickle"
    begin = time.monotonic()
    with pytest.raises(BrokerDown):
        process.call("get", b"d:k")
    assert time.monotonic() - begin < 2
    proxy.fault = ""
    comes_true(lambda: process.call("get", b"d:k") == b"v" * 1000, 5)


def test_a_link_that_hears_nothing_is_replaced(
    proxy: FaultProxy, single: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "PROBE_IDLE_SECONDS", 0.4)
    monkeypatch.setattr(subscriptions, "PROBE_ANSWER_SECONDS", 0.8)
    process = connect(proxy.url)
    process.subscribe(ROOM)
    time.sleep(2)
    assert process.interrupted == [], "the probes come back"
    assert process.heard == []
    proxy.fault = "deaf"
    process.wait_for(lambda: process.interrupted, 5)
    proxy.fault = ""
    comes_true(lambda: hears_all(process, [ROOM], process), 5)


# -- the server


def test_a_server_that_comes_back_without_data(single: Server, connect: Connect) -> None:
    process = connect(single.url)
    process.subscribe(*ROOMS)
    keep = (b"recoverable", 10, 60000, b"", b"", b"body")
    _, epoch, _, _ = process.call("keep", ROOM, *keep)
    single.kill()
    comes_true(lambda: process.broker.state == "down", 3)
    with pytest.raises(BrokerDown) as down:
        process.call("publish", ROOM, b"a")
    assert not down.value.uncertain
    single.start()
    back = time.monotonic()
    process.wait_for(lambda: process.fenced, 5)
    comes_true(lambda: hears_all(process, ROOMS, process), 5)
    assert time.monotonic() - back < 5
    assert process.call("keep", ROOM, *keep)[1] != epoch
    assert enter(process, ROOM, b"m") == 1
    assert process.call("count", ROOM) == 1


def test_a_server_that_comes_back_with_its_data(tmp_path: Path, connect: Connect) -> None:
    program = redis_servers.redis_program()
    with redis_servers.single(
        tmp_path, program, "--appendonly", "yes", "--appendfsync", "always"
    ) as server:
        process = connect(server.url)
        process.subscribe(ROOM)
        before = process.name
        enter(process, ROOM, b"m")
        server.kill()
        server.start()
        comes_true(lambda: process.broker.state == "up" and process.call("count", ROOM) == 1, 5)
        comes_true(lambda: hears_all(process, [ROOM], process), 5)
        time.sleep(0.5)
        assert (process.fenced, process.name) == (0, before)


def test_changes_that_the_server_has_lost(
    single: Server, proxy: FaultProxy, connect: Connect
) -> None:
    """As a failover does: the lease is there, and a member that was confirmed is not."""
    process = connect(proxy.url)
    enter(process, ROOM, b"m")
    single.ask("DEL", *single.ask("KEYS", "*:w:*"))
    proxy.reset()
    process.wait_for(lambda: process.fenced, 5)


def test_a_server_that_hangs(single: Server, connect: Connect) -> None:
    process = connect(single.url)
    process.subscribe(ROOM)
    single.stop()
    try:
        with pytest.raises(BrokerDown):
            process.call("publish", ROOM, b"a")
        comes_true(lambda: process.broker.state == "down", 3)
    finally:
        single.go_on()
    comes_true(lambda: process.broker.state == "up", 5)
    comes_true(lambda: hears_all(process, [ROOM], process), 5)


def test_a_server_that_is_full(single: Server, connect: Connect) -> None:
    process = connect(single.url)
    process.subscribe(ROOM)
    single.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(BrokerError, match="is full"):
        process.call("set", b"d:k", b"v", 0)
    with pytest.raises(BrokerError, match="is full"):
        process.call("keep", ROOM, b"recoverable", 10, 60000, b"", b"", b"body")
    assert process.call("publish", ROOM, b"a") == 1, "nothing is stored"
    single.ask("CONFIG", "SET", "maxmemory", "0")
    assert process.call("set", b"d:k", b"v", 0) == 1


def test_scripts_that_the_server_has_lost(single: Server, connect: Connect) -> None:
    process = connect(single.url)
    single.ask("SCRIPT", "FLUSH")
    assert process.call("set", b"d:k", b"v", 0) == 1
    assert process.call("get", b"d:k") == b"v"


def test_a_subscriber_that_does_not_read_is_cut_and_told(single: Server, connect: Connect) -> None:
    process, other = connect(single.url), connect(single.url)
    single.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 1")
    held = threading.Event()
    process.on_message = lambda channel, payload: held.wait(20)
    process.subscribe(ROOM)
    for _ in range(40):
        other.call("publish", ROOM, b"x" * 500_000)
    held.set()
    process.wait_for(lambda: process.interrupted, 10)


def test_leaves_in_all_partitions_are_published_in_time(single: Server, connect: Connect) -> None:
    process, other = connect(single.url), connect(single.url)
    rooms = {partition_of(b"g:%d" % n): b"g:%d" % n for n in range(2000)}
    assert len(rooms) == PARTITIONS
    process.subscribe(*rooms.values())
    for room in rooms.values():
        enter(other, room, b"m")
    other.broker.close()
    gone = time.monotonic()
    # As a process asks, each second.
    while not all(process.payloads(room) for room in rooms.values()):
        assert time.monotonic() - gone < 4.2
        process.call("publish_due_leaves", b"", b"<", b",", b">")
        time.sleep(1)
    assert {process.payloads(room)[0] for room in rooms.values()} == {b"\0<1>"}


# -- several servers


def test_the_masters_failover(
    request: pytest.FixtureRequest, tmp_path: Path, connect: Connect
) -> None:
    needs(request, "sentinel")
    with redis_servers.watched(tmp_path, redis_servers.redis_program()) as servers:
        assert "1 master" in examine(parse(servers.url), "test")
        fault = fault_of(servers.url.replace("/main", "/another"))
        assert "'another'" in fault
        process = connect(servers.url)
        process.subscribe(*ROOMS)
        enter(process, ROOM, b"m")
        servers.master.kill()
        comes_true(lambda: process.broker.state == "down", 3)
        comes_true(lambda: process.call("publish", ROOMS[0], b"a") == 1, 20)
        comes_true(lambda: process.broker.state == "up", 5)
        assert hears_all(process, ROOMS, process)
        assert process.interrupted
        assert process.call("count", ROOM) == 1 or process.fenced


def test_a_node_of_a_cluster_fails_over(
    request: pytest.FixtureRequest, tmp_path: Path, connect: Connect
) -> None:
    needs(request, "cluster")
    with redis_servers.cluster(tmp_path, redis_servers.redis_program(), 3) as servers:
        process = connect(servers.url)
        process.subscribe(*ROOMS)
        assert hears_all(process, ROOMS, process)
        victim = servers.nodes[0]
        lost = [r for r in ROOMS if servers.owner_of(SLOT_OF_PARTITION[partition_of(r)]) is victim]
        victim.kill()
        comes_true(lambda: process.broker.state == "degraded", 5)
        [whole, *_] = [room for room in ROOMS if room not in lost]
        assert process.call("publish", whole, b"a") == 1
        comes_true(lambda: process.broker.state == "up", 20)
        comes_true(lambda: hears_all(process, ROOMS, process), 5)
        named = {room for rooms, _, _ in process.interrupted for room in rooms}
        assert named == set(lost)


def test_two_nodes_that_hang_hold_up_no_third(
    request: pytest.FixtureRequest, tmp_path: Path, connect: Connect
) -> None:
    needs(request, "cluster")
    with redis_servers.cluster(tmp_path, redis_servers.redis_program()) as servers:
        process = connect(servers.url)
        process.subscribe(ROOM)
        comes_true(lambda: process.broker.state == "up", 5)
        owners = {room: servers.owner_of(SLOT_OF_PARTITION[partition_of(room)]) for room in ROOMS}
        whole, *silent = servers.nodes
        for node in silent:
            node.stop()
        try:
            begin = time.monotonic()
            with pytest.raises(BrokerDown):
                process.subscribe(*ROOMS)
            assert time.monotonic() - begin < 2
            rooms = [room for room, owner in owners.items() if owner is whole]
            subscribed = whole.ask("PUBSUB", "SHARDCHANNELS")
            assert {room.decode() for room in rooms} <= {n.partition("}:")[2] for n in subscribed}
        finally:
            for node in silent:
                node.go_on()
        comes_true(lambda: hears_all(process, ROOMS, process), 20)


def test_a_slot_that_moves(
    request: pytest.FixtureRequest, tmp_path: Path, connect: Connect
) -> None:
    needs(request, "cluster")
    with redis_servers.cluster(tmp_path, redis_servers.redis_program()) as servers:
        assert "3 masters" in examine(parse(servers.url), "test")
        fault = fault_of(servers.nodes[0].url)
        assert "redis+cluster://" in fault
        process, other = connect(servers.url), connect(servers.url)
        process.subscribe(*ROOMS)
        enter(process, ROOMS[0], b"m")
        moved = partition_of(ROOMS[0])
        source = servers.owner_of(SLOT_OF_PARTITION[moved])
        servers.move_slot(
            SLOT_OF_PARTITION[moved], next(n for n in servers.nodes if n is not source)
        )
        comes_true(lambda: hears_all(process, ROOMS, other), 5)
        assert process.call("count", ROOMS[0]) == 1
        named = {room for rooms, _, _ in process.interrupted for room in rooms}
        assert named == {room for room in ROOMS if partition_of(room) == moved}
        assert process.broker.state == "up"
        assert process.fenced == 0
