"""Which server owns which partition, and the connections to them.

An address is a pair of host and port, or the path of a unix socket. Nothing here is kept open: each
question connects anew, because it is asked when a connection has failed.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gworker.broker.redis.partitions import PARTITIONS, SLOT_OF_PARTITION
from gworker.broker.url import BrokerUrl
from gworker.errors import BrokerDown, BrokerError

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError, RedisError, ResponseError
    from redis.retry import Retry
except ImportError as missing:
    raise BrokerError(
        "--broker redis:// needs the package redis: pip install 'gworker[redis]'"
    ) from missing

if tuple(map(int, redis.__version__.split(".")[:2])) < (8, 1):
    raise BrokerError(
        f"--broker redis:// needs the package redis 8.1 or later, and this is {redis.__version__}: "
        "pip install -U 'gworker[redis]'"
    )

Address = tuple[str, int] | str

# Seconds in which a server takes a connection, and within which it answers. Both together, and a
# look at what else is due, are less than `CALL_SECONDS`.
CONNECT_SECONDS = 0.8
ANSWER_SECONDS = 1.5

OLDEST = (7, 0)


def text_of(address: Address) -> str:
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True)
class Topology:
    """owners: the address of the master of each partition; None where the cluster has none."""

    owners: tuple[Address | None, ...]

    @property
    def masters(self) -> frozenset[Address]:
        return frozenset(owner for owner in self.owners if owner is not None)


class Servers:
    """The servers that a URL names: how to connect to one, and which of them are the masters."""

    def __init__(self, url: BrokerUrl, client_name: str) -> None:
        self._url = url
        self._client_name = client_name
        self._seeds: tuple[Address, ...] = (url.path,) if url.kind == "unix" else tuple(url.hosts)
        self._known: tuple[Address, ...] = self._seeds
        self._tls = ssl.create_default_context() if url.tls else None

    # -- connections

    def connection(self, address: Address, *, is_sentinel: bool = False) -> Any:
        """A connection of redis-py for commands, not yet open. It repeats nothing.

        Any: the class has few types.
        """
        url = self._url
        options: dict[str, Any] = {
            "socket_timeout": ANSWER_SECONDS,
            "socket_connect_timeout": CONNECT_SECONDS,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,
            "socket_read_size": 1 << 16,
        }
        if not is_sentinel:
            options.update(
                db=url.database,
                username=url.user or None,
                password=url.password or None,
                client_name=self._client_name,
            )
        make: Any = redis.Connection if self._tls is None else redis.SSLConnection
        if isinstance(address, str):
            make = redis.UnixDomainSocketConnection
            return make(path=address, **options)
        return make(host=address[0], port=address[1], **options)

    def socket(self, address: Address, seconds: float) -> socket.socket:
        """A connected socket, for messages. Raises OSError."""
        seconds = min(seconds, CONNECT_SECONDS)
        if isinstance(address, str):
            end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            end.settimeout(seconds)
            try:
                end.connect(address)
            except OSError:
                end.close()
                raise
            return end
        end = socket.create_connection(address, seconds)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            return end
        try:
            return self._tls.wrap_socket(end, server_hostname=address[0])
        except OSError:
            end.close()
            raise

    def greeting(self) -> Iterator[tuple[str | bytes, ...]]:
        """The commands that open a socket for messages."""
        url = self._url
        hello: tuple[str | bytes, ...] = ("HELLO", "3")
        if url.password:
            hello += ("AUTH", url.user or "default", url.password)
        yield (*hello, "SETNAME", self._client_name)

    @contextlib.contextmanager
    def ask(self, address: Address, *, is_sentinel: bool = False) -> Iterator[Callable[..., Any]]:
        """A function that asks one server. Raises BrokerDown, and BrokerError if it refuses."""
        connection = self.connection(address, is_sentinel=is_sentinel)

        def command(*words: str | bytes) -> Any:
            connection.send_command(*words, check_health=False)
            return connection.read_response()

        try:
            connection.connect()
            yield command
        except (RedisError, OSError) as error:
            raise failure(address, error) from None
        finally:
            connection.disconnect()

    # -- masters

    def resolve(self, until: float) -> Topology:
        """Ask the servers which of them owns what, until a moment of the monotonic clock.

        Raises BrokerDown if none of them can tell, BrokerError if they are not what the URL says.
        """
        kind = self._url.kind
        if kind == "sentinel":
            return Topology((self._master_by_sentinel(until),) * PARTITIONS)
        if kind == "cluster":
            return self._cluster(until)
        return Topology((self._seeds[0],) * PARTITIONS)

    def _master_by_sentinel(self, until: float) -> Address:
        url = self._url
        reasons: list[str] = []
        for sentinel in self._seeds:
            if reasons and time.monotonic() > until:
                break
            try:
                with self.ask(sentinel, is_sentinel=True) as ask:
                    found = ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.service)
                if found is None:
                    raise BrokerError(
                        f"the sentinel {text_of(sentinel)} knows no master {url.service!r}"
                    )
                address = found[0].decode(), int(found[1])
                with self.ask(address) as ask:
                    role = ask("ROLE")[0].decode()
            except BrokerDown as error:
                reasons.append(str(error))
                continue
            if role == "master":
                return address
            reasons.append(f"{text_of(address)}: the master by {text_of(sentinel)} is none")
        raise BrokerDown(f"no master: {'; '.join(reasons)}")

    def _cluster(self, until: float) -> Topology:
        reasons: list[str] = []
        for address in dict.fromkeys((*self._known, *self._seeds)):
            if reasons and time.monotonic() > until:
                break
            try:
                with self.ask(address) as ask:
                    ranges = ask("CLUSTER", "SLOTS")
            except BrokerDown as error:
                reasons.append(str(error))
                continue
            except BrokerError as error:
                if "cluster support disabled" in str(error):
                    raise BrokerError(
                        f"{text_of(address)} is no node of a cluster: its URL is redis://"
                    ) from None
                raise
            topology = self._owners(address, ranges)
            # Those that are masters now are asked first, those that the URL names after them.
            self._known = tuple(topology.masters)
            if topology.masters:
                return topology
            reasons.append(f"{text_of(address)}: no slot has a master")
        raise BrokerDown("; ".join(reasons))

    @staticmethod
    def _owners(asked: Address, ranges: list[Any]) -> Topology:
        owners: list[Address | None] = [None] * PARTITIONS
        for first, last, master, *_ in ranges:
            # A node that does not know its own name says "" or "?": it is the one that was asked.
            host = (master[0] or b"").decode()
            if host in ("", "?"):
                host = asked[0]
            address = host, int(master[1])
            for partition, slot in enumerate(SLOT_OF_PARTITION):
                if first <= slot <= last:
                    owners[partition] = address
        return Topology(tuple(owners))


def failure(address: Address, error: Exception) -> BrokerDown | BrokerError:
    """What a failed connection means, in words. The errors of redis-py hold no password."""
    where = text_of(address)
    if isinstance(error, AuthenticationError):
        code = error.status_code
        if code == "NOAUTH" or "without any password" in str(error):
            return BrokerError(f"{where} wants a password, and the URL has none")
        return BrokerError(f"{where} refuses the user or password of the URL")
    if isinstance(error, ResponseError):
        if error.status_code in ("CLUSTERDOWN", "MASTERDOWN"):
            return BrokerDown(f"{where}: {error}")
        return BrokerError(f"{where}: {error}")
    if isinstance(error, (redis.TimeoutError, TimeoutError)):
        return BrokerDown(f"{where} does not answer")
    if getattr(error, "status_code", None) == "LOADING":
        return BrokerDown(f"{where} still loads its data")
    # redis-py repeats the address, and the number of the error.
    return BrokerDown(f"{where}: {str(error).rstrip('.')}")


def check_fit(address: Address, facts: dict[str, str], is_cluster_url: bool) -> None:
    """Raises BrokerError if a server is too old, or is a node of a cluster and should not be."""
    version = facts.get("redis_version", "0")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise BrokerError(
            f"{text_of(address)} is Redis {version}; 7.0 is the oldest that will do (or Valkey)"
        )
    if facts.get("redis_mode") == "sentinel":
        raise BrokerError(f"{text_of(address)} is a sentinel: its URL is redis+sentinel://")
    if facts.get("redis_mode") == "cluster" and not is_cluster_url:
        raise BrokerError(f"{text_of(address)} is a node of a cluster: its URL is redis+cluster://")


def facts_of(answer: bytes) -> dict[str, str]:
    """The fields of INFO."""
    lines = answer.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
