"""Brokers that the conformance suite is run over: each kind is a server, and ways to it.

A further kind is a context manager that yields a `Server`, under its name in `KINDS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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


class _Servers(Protocol):
    url: str


def at_url(
    start: Callable[[Path, str], AbstractContextManager[_Servers]], program: Callable[[], str]
) -> Callable[[Path], AbstractContextManager[Server]]:
    """What starts servers of Redis or Valkey. They have one cluster of ours."""

    @contextmanager
    def serve(directory: Path) -> Iterator[Server]:
        with start(directory, program()) as servers:
            yield Server(lambda: RedisBroker(parse(servers.url), "conformance", "here"))

    return serve


KINDS: dict[str, Callable[[Path], AbstractContextManager[Server]]] = {
    "memory": memory,
    "local": local,
    "redis": at_url(redis_servers.single, redis_servers.redis_program),
    "valkey": at_url(redis_servers.single, redis_servers.valkey_program),
    "cluster": at_url(redis_servers.cluster, redis_servers.redis_program),
    "valkey-cluster": at_url(redis_servers.cluster, redis_servers.valkey_program),
    "sentinel": at_url(redis_servers.watched, redis_servers.redis_program),
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
