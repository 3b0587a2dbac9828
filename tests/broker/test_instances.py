"""Whole instances over brokers of several servers, and over what takes longer than a lease: clients
publish and check numbers meanwhile (`crowds`)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import pytest
import redis_servers
from broker_servers import chosen
from crowds import APP, Crowd, Peer
from instance import wait_for
from serving import Served, serve

from gworker.broker.redis.partitions import SLOT_OF_PARTITION, partition_of

pytestmark = pytest.mark.timeout(180)

GONE = 60.0
"""Seconds within which the members of a dead machine are gone."""


def needs(request: pytest.FixtureRequest, kind: str) -> None:
    if kind not in chosen(request.config.getoption("--brokers")):
        pytest.skip(f"only with --brokers {kind}")


@contextmanager
def served(factory: pytest.TempPathFactory, url: str, *options: str) -> Iterator[Served]:
    words = "--broker", url, "--cluster-name", "instances", "-w", "2", *options
    with serve(factory, APP, *words) as app:
        yield app


@contextmanager
def crowd_of(factory: pytest.TempPathFactory, url: str, name: str) -> Iterator[Crowd]:
    with served(factory, url) as app, ExitStack() as ends:
        yield Crowd(app, name, ends)
        assert "Traceback" not in app.read_log()


def slot_of(group: str) -> int:
    return SLOT_OF_PARTITION[partition_of(b"g:" + group.encode())]


def use_until(crowd: Crowd, condition: Callable[[], bool], seconds: float) -> None:
    """Call all kinds of things, each of which has its bound, until `condition` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        crowd.use(0.3)


def test_the_failover_of_a_master(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    needs(request, "sentinel")
    with (
        redis_servers.watched(tmp_path, redis_servers.redis_program()) as servers,
        crowd_of(tmp_path_factory, servers.url, "failover") as crowd,
    ):
        servers.master.kill()
        use_until(crowd, lambda: servers.master_port() == servers.replica.port, 30)
        crowd.wait_whole()
        assert crowd.was_told("down")
        crowd.end()


def test_the_failover_of_a_node(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    needs(request, "cluster")
    with (
        redis_servers.cluster(tmp_path, redis_servers.redis_program(), 3) as servers,
        crowd_of(tmp_path_factory, servers.url, "failover") as crowd,
    ):
        victim = servers.owner_of(slot_of(crowd.groups[0]))
        victim.kill()
        servers.nodes.remove(victim)
        use_until(crowd, lambda: not servers.has_slots(victim), 30)
        crowd.wait_whole()
        assert crowd.was_told("degraded")
        crowd.end()


def test_slots_that_move_while_clients_publish(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    needs(request, "cluster")
    with (
        redis_servers.cluster(tmp_path, redis_servers.redis_program()) as servers,
        crowd_of(tmp_path_factory, servers.url, "moves") as crowd,
    ):

        def move() -> None:
            for _ in range(3):
                for group in (*crowd.groups, crowd.seen):
                    source = servers.owner_of(slot_of(group))
                    place = servers.nodes.index(source)
                    servers.move_slot(slot_of(group), servers.nodes[(place + 1) % 3])

        moving = threading.Thread(target=move)
        moving.start()
        use_until(crowd, lambda: not moving.is_alive(), 30)
        crowd.wait_whole()
        crowd.end(whole=[crowd.groups[0]])


def test_a_machine_that_dies_and_a_process_that_hangs(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Their members are gone when their lease is over. The process that hangs comes back."""
    needs(request, "valkey")
    with (
        redis_servers.single(tmp_path, redis_servers.redis_program()) as server,
        served(tmp_path_factory, server.url, "--timeout", "300") as first,
        served(tmp_path_factory, server.url) as second,
        ExitStack() as ends,
    ):
        asking = ends.enter_context(closing(Peer(second)))
        process = psutil.Process(first.workers("room")[0]["pid"])
        members = [ends.enter_context(closing(Peer(first))) for _ in range(8)]
        for each in members:
            each.ask("enter", "seen lease")
        asking.ask("enter", "seen lease")
        hanging = sum(each.ask("pid")["result"] == process.pid for each in members)
        assert 0 < hanging < 8
        process.suspend()
        stopped_at = time.monotonic()
        wait_for(lambda: count(asking) == 9 - hanging, "those that hang are gone", GONE)
        assert time.monotonic() - stopped_at > 15, "a lease is not over at once"
        process.resume()
        wait_for(lambda: count(asking) == 9, "they are back", 5)
        for victim in [psutil.Process(first.pid), *first.children()]:
            os.kill(victim.pid, signal.SIGKILL)
        wait_for(lambda: count(asking) == 1, "those of the dead machine are gone", GONE)


def test_a_process_that_hangs_over_the_local_broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    needs(request, "valkey")
    with serve(tmp_path_factory, APP, "-w", "2", "--timeout", "300") as app, ExitStack() as ends:
        members = [ends.enter_context(closing(Peer(app))) for _ in range(8)]
        for each in members:
            each.ask("enter", "seen lease")
        process = psutil.Process(app.workers("room")[0]["pid"])
        pids = {each: each.ask("pid")["result"] for each in members}
        hanging = sum(pid == process.pid for pid in pids.values())
        asking = next(each for each, pid in pids.items() if pid != process.pid)
        assert 0 < hanging < 8
        process.suspend()
        wait_for(lambda: count(asking) == 8 - hanging, "those that hang are gone", GONE)
        process.resume()
        wait_for(lambda: count(asking) == 8, "they are back", 5)


def count(peer: Peer) -> int:
    return int(peer.ask("count", "seen lease")["result"])
