"""Messages from outside: from Django, Celery, cron or a shell, without gevent and without a Worker.

A `Publisher` connects at its first call, and anew in each process that is forked from the one in
which it was made.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Any, cast
from weakref import WeakSet

from gworker.broker.interface import CALL_SECONDS, Answer, Broker, Reply, State
from gworker.broker.local import LocalBroker
from gworker.broker.url import BrokerUrl, parse
from gworker.config.file_names import broker_path
from gworker.config.options import default_runtime_dirs
from gworker.config.parsers import cluster_name
from gworker.config.runtime_dirs import believed
from gworker.errors import BrokerDown, BrokerError
from gworker.messages.caller import Called
from gworker.messages.calls import Calls
from gworker.messages.declarations import Declaration, Declarations, checked
from gworker.messages.shared_data import SharedData

# Seconds for which it is believed what was declared for groups.
FRESH_SECONDS = 1.0


class Publisher(Calls):
    """The calls of `gworker.messages` but `subscribe`, for programs that are no Worker.

    broker: "local", the instance of gworker on this machine whose name is `cluster` (`--name`, else
    its TARGET), or the URL of a Redis, as `--broker` has it, with the `--cluster-name`.
    runtime_dir: where a local instance has its files, if that is none of the default directories.

    It may be made anywhere: it connects at its first call, and once more in each child that is
    forked. Threads may share one. What holds for a group is what the Workers have declared. Each
    call waits at most 2 seconds for the broker, and the first one as long again until it is
    connected. Where it does not answer, and where no such instance runs, that is
    `gworker.BrokerDown`; where it may not be used, or the package redis is missing,
    `gworker.BrokerError`.

    `disconnect`, or the end of a `with` block, ends the connection; a later call makes a new one.
    """

    def __init__(
        self, broker: str = "local", *, cluster: str, runtime_dir: str | None = None
    ) -> None:
        self._way = _Way(_maker(broker, cluster, runtime_dir))
        super().__init__(self._connected)
        self.data = SharedData(lambda: self._way)

    def _connected(self) -> _Way:
        # Before a call, as the time that it takes is not the call's.
        self._way.connect()
        return self._way

    @property
    def state(self) -> State:
        """ "up", "degraded" or "down", which it is before the first call, too."""
        return self._way.state

    def disconnect(self) -> None:
        self._way.disconnect()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.disconnect()


def _maker(text: str, cluster: str, runtime_dir: str | None) -> Callable[[], Broker]:
    # Raises BrokerError for what can never work.
    url = parse(text)
    if url.kind == "local":
        directories = default_runtime_dirs() if runtime_dir is None else (runtime_dir,)
        return lambda: LocalBroker(
            _socket(directories, cluster), title=f"the broker of the instance {cluster}"
        )
    if not url.is_redis:
        raise BrokerError(f"broker {url}: it is in one process alone")
    try:
        cluster_name(cluster)
    except ValueError as error:
        raise BrokerError(f"cluster {cluster!r} is not valid, expected {error}") from None
    if find_spec("redis") is None:
        raise BrokerError(
            f"broker {url}: the package redis is not installed: pip install 'gworker[redis]'"
        )
    return lambda: _redis(url, cluster)


def _redis(url: BrokerUrl, cluster: str) -> Broker:
    # Here: it needs a package that may be missing.
    from gworker.broker.redis.broker import RedisBroker

    return RedisBroker(url, cluster)


def _socket(directories: Sequence[str], name: str) -> str:
    """The path of the socket of an instance's broker. Raises BrokerDown, BrokerError."""
    closed = ""
    for directory in believed(directories):
        path = broker_path(directory, name)
        try:
            os.stat(path)
        except PermissionError:
            closed = closed or directory
        except OSError:
            continue
        else:
            if os.access(path, os.W_OK, effective_ids=True):
                return path
            raise BrokerError(
                f"this user may not use the broker of the instance {name}: {path} is closed to "
                "them; see --broker-mode and --broker-group"
            )
    if closed:
        raise BrokerError(
            f"this user may not enter {closed}, where the instance {name} may have its broker; see "
            "--runtime-dir"
        )
    file = os.path.basename(broker_path("", name))
    raise BrokerDown(
        f"the instance {name} is not running: there is no {file} in {' nor '.join(directories)}"
    )


class _Way:
    """The way to a broker, made when it is needed. It implements `caller.Called` and
    `caller.CallingProcess`."""

    def __init__(self, make: Callable[[], Broker]) -> None:
        self.published = 0
        self.declarations = _Stored(self)
        self._make = make
        self._lock = threading.Lock()
        self._broker: Broker | None = None
        _ways.add(self)

    @property
    def state(self) -> State:
        return "down" if self._broker is None else self._broker.state

    @property
    def broker(self) -> Called:
        return self

    def client_id_of(self, connection: Any) -> str:
        raise TypeError(f"expected a client id, not {connection!r}")

    def is_gone(self, client_id: str) -> bool:
        return False

    def call(self, operation: str, channel: bytes, *arguments: bytes) -> Reply:
        return (self._broker or self.connect()).call(operation, channel, *arguments)

    def submit(self, operation: str, channel: bytes, *arguments: bytes) -> Answer:
        return (self._broker or self.connect()).submit(operation, channel, *arguments)

    def connect(self) -> Broker:
        """Connect, unless that was done. What takes longer than `CALL_SECONDS` goes on, and the
        calls say why. Raises BrokerError if the broker is not fit."""
        with self._lock:
            if self._broker is None:
                broker = self._make()
                try:
                    broker.start(_Deaf(), CALL_SECONDS)
                except BrokerDown:
                    pass  # it goes on trying, and the call says why
                except BrokerError:
                    broker.close()
                    raise
                self._broker = broker
            return self._broker

    def disconnect(self) -> None:
        with self._lock:
            broker, self._broker = self._broker, None
        if broker is not None:
            broker.close()

    def after_fork(self) -> None:
        """In a child: the connection is the parent's, and a lock may be that of a thread that is
        not here."""
        self._lock = threading.Lock()
        broker, self._broker = self._broker, None
        if broker is not None:
            broker.let_go()


_ways: WeakSet[_Way] = WeakSet()


def _after_fork() -> None:
    for way in list(_ways):
        way.after_fork()


os.register_at_fork(after_in_child=_after_fork)


class _Deaf:
    """Hears nothing: a publisher subscribes to no channel, and holds no members."""

    def on_message(self, channel: bytes, payload: bytes) -> None:
        pass

    def on_state(self, state: State) -> None:
        pass

    def on_interrupted(self, channels: Sequence[bytes], since: float, until: float) -> None:
        pass

    def on_fenced(self) -> None:
        pass


class _Stored:
    """The declarations that the broker has."""

    def __init__(self, way: _Way) -> None:
        self._way = way
        self._known = Declarations()
        self._read_at = -FRESH_SECONDS

    def of(self, group: str) -> Declaration:
        now = time.monotonic()
        if now - self._read_at >= FRESH_SECONDS:
            rows = cast("list[list[bytes]]", self._way.call("declarations", b""))
            # A broker that was started anew hears of them within moments.
            if rows:
                self._known = _parsed(rows)
            self._read_at = now
        return self._known.of(group)


def _parsed(rows: Sequence[Sequence[bytes]]) -> Declarations:
    found = Declarations()
    for pattern, text in rows:
        found.add(checked(pattern.decode(), **json.loads(text)))
    return found
