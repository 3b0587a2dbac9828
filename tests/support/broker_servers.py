"""Brokers that the conformance suite is run over: each kind is a server, and ways to it.

A further kind is a context manager that yields a `Server`, under its name in `KINDS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis_servers
from broker_faults import BrokerProcess

from gworker.broker.interface import Broker
from gworker.broker.local import LocalBroker
from gworker.broker.memory import MemoryBroker, MemoryServer
from gworker.broker.redis.broker import RedisBroker
from gworker.broker.url import parse


@dataclass
class Server:
    """A server of brokers.

    make: one more process's way to it, which has not started. advance: moves its clock, where that
    is an invented one.
    """

    make: Callable[[], Broker]
    advance: Callable[[float], None] | None = None

    def wait(self, seconds: float) -> None:
        """Let so much time go by at the server."""
        if self.advance is None:
            time.sleep(seconds)
        else:
            self.advance(seconds)

    def wait_until(self, condition: Callable[[], object], seconds: float) -> float:
        """Wait at most so much time of the server; return how much of it has gone by."""
        begin, passed = time.monotonic(), 0.0
        while not condition():
            assert passed < seconds, f"not within {seconds} s"
            self.wait(0.02)
            passed = time.monotonic() - begin if self.advance is None else passed + 0.02
        return passed


@contextmanager
def memory(directory: Path) -> Iterator[Server]:
    now = 1000.0

    def advance(seconds: float) -> None:
        nonlocal now
        now += seconds

    server = MemoryServer(lambda: now)
    yield Server(lambda: MemoryBroker(server), advance)


@contextmanager
def local(directory: Path) -> Iterator[Server]:
    process = BrokerProcess()
    try:
        yield Server(lambda: LocalBroker(process.path))
    finally:
        process.close()


def at_url(url: str) -> Server:
    """Each server of Redis has one cluster of ours."""
    return Server(lambda: RedisBroker(parse(url), "conformance", "here"))


@contextmanager
def redis(directory: Path) -> Iterator[Server]:
    with redis_servers.single(directory, redis_servers.redis_program()) as server:
        yield at_url(server.url)


@contextmanager
def valkey(directory: Path) -> Iterator[Server]:
    with redis_servers.single(directory, redis_servers.valkey_program()) as server:
        yield at_url(server.url)


@contextmanager
def cluster(directory: Path) -> Iterator[Server]:
    with redis_servers.cluster(directory, redis_servers.redis_program()) as servers:
        yield at_url(servers.url)


@contextmanager
def valkey_cluster(directory: Path) -> Iterator[Server]:
    with redis_servers.cluster(directory, redis_servers.valkey_program()) as servers:
        yield at_url(servers.url)


@contextmanager
def sentinel(directory: Path) -> Iterator[Server]:
    with redis_servers.watched(directory, redis_servers.redis_program()) as servers:
        yield at_url(servers.url)


KINDS: dict[str, Callable[[Path], AbstractContextManager[Server]]] = {
    "memory": memory,
    "local": local,
    "redis": redis,
    "valkey": valkey,
    "cluster": cluster,
    "valkey-cluster": valkey_cluster,
    "sentinel": sentinel,
}
"""By name: what starts a server, with its files in a directory, and ends it."""

DEFAULT = ("memory", "local", "redis")
"""What runs without `--brokers`; the others take longer."""


def chosen(option: str) -> list[str]:
    """The kinds that `--brokers` means: names with commas between, or `all`."""
    if option == "all":
        return list(KINDS)
    names = option.split(",") if option else [name for name in DEFAULT if name in KINDS]
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise ValueError(f"--brokers: no such broker: {', '.join(unknown)}; {', '.join(KINDS)}")
    return names
