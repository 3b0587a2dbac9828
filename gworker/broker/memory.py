"""A broker in this process, for tests: what is published reaches those that share its store."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from gworker.broker.interface import Answer, Listener, Reply, State
from gworker.broker.store.store import Store
from gworker.errors import BrokerDown, BrokerError


class MemoryServer:
    """A store, and the brokers that share it: each of them stands for a process.

    clock: see `Store`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._subscribers: dict[bytes, dict[MemoryBroker, None]] = {}
        self._clock = clock
        self._store = Store(self._deliver, clock)

    def lose_data(self) -> None:
        """Forget all, as one that is started again."""
        self._store = Store(self._deliver, self._clock)

    def do(self, operation: str, channel: bytes, *arguments: bytes) -> Reply:
        with self._lock:
            do = self._store.operations.get(operation)
            if do is None:
                raise BrokerError(f"no operation: {operation}")
            try:
                return do(channel, *arguments)
            except (TypeError, ValueError) as error:
                raise BrokerError(f"{operation}: {error}") from error

    def subscribe(self, broker: MemoryBroker, channels: Sequence[bytes]) -> None:
        with self._lock:
            for channel in channels:
                self._subscribers.setdefault(channel, {})[broker] = None

    def unsubscribe(self, broker: MemoryBroker, channels: Sequence[bytes]) -> None:
        with self._lock:
            for channel in channels:
                subscribers = self._subscribers.get(channel, {})
                subscribers.pop(broker, None)
                if not subscribers:
                    self._subscribers.pop(channel, None)

    def _deliver(self, channel: bytes, payload: bytes) -> int:
        subscribers = self._subscribers.get(channel, ())
        for broker in subscribers:
            broker.take(channel, payload)
        return len(subscribers)


class _Done:
    """What an operation has answered already."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def wait(self) -> Reply:
        return self._reply


class MemoryBroker:
    """One process's way to a `MemoryServer`, or to one of its own. It implements
    `interface.Broker`.

    A test breaks it with `break_off`, and mends it with `restore`.
    """

    def __init__(self, server: MemoryServer | None = None) -> None:
        self.process = _new_name()
        self.state: State = "down"
        self.latency = 0.0
        self._server = server or MemoryServer()
        self._listener: Listener | None = None
        self._wanted: dict[bytes, None] = {}
        self._broken_at = 0.0
        # What the listener is called with, in order; None is the end.
        self._calls: SimpleQueue[Callable[[Listener], None] | None] = SimpleQueue()

    def start(self, listener: Listener, wait: float) -> None:
        self._listener = listener
        threading.Thread(target=self._read, name="broker", daemon=True).start()
        self._server.do("renew", b"", self.process, b"0")
        self._go("up")

    def call(self, operation: str, channel: bytes, *arguments: bytes) -> Reply:
        if self.state == "down":
            raise BrokerDown("the broker is down")
        return self._server.do(operation, channel, *arguments)

    def submit(self, operation: str, channel: bytes, *arguments: bytes) -> Answer:
        return _Done(self.call(operation, channel, *arguments))

    def post(self, operation: str, channel: bytes, *arguments: bytes) -> None:
        if self.state != "down":
            self._server.do(operation, channel, *arguments)

    def partition_of(self, channel: bytes) -> int:
        return 0

    def subscribe(self, channels: Sequence[bytes]) -> None:
        self._wanted.update(dict.fromkeys(channels))
        if self.state == "down":
            raise BrokerDown("the broker is down")
        self._server.subscribe(self, channels)

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        for channel in channels:
            self._wanted.pop(channel, None)
        self._server.unsubscribe(self, channels)

    def close(self) -> None:
        self._calls.put(None)
        self._server.unsubscribe(self, list(self._wanted))
        self._server.do("reap", b"", self.process)
        self.state = "down"

    def process_died(self, pid: int) -> int:
        return 0  # all of them are this one

    def let_go(self) -> None:
        # The copy's reader has not been forked with it.
        self.state = "down"

    def take(self, channel: bytes, payload: bytes) -> None:
        """The server has a message for this process."""
        self._calls.put(lambda listener: listener.on_message(channel, payload))

    def break_off(self) -> None:
        """The broker is out of reach from now on, and has forgotten this process."""
        self._broken_at = time.time()
        self._server.unsubscribe(self, list(self._wanted))
        self._server.do("reap", b"", self.process)
        self._go("down")

    def restore(self) -> None:
        """It is there again."""
        self.process = _new_name()
        self._server.do("renew", b"", self.process, b"0")
        channels, since, until = list(self._wanted), self._broken_at, time.time()
        self._server.subscribe(self, channels)
        if channels:
            self._calls.put(lambda listener: listener.on_interrupted(channels, since, until))
        self._calls.put(lambda listener: listener.on_fenced())
        self._go("up")

    def _go(self, state: State) -> None:
        self.state = state
        self._calls.put(lambda listener: listener.on_state(state))

    def _read(self) -> None:
        assert self._listener is not None
        while (call := self._calls.get()) is not None:
            call(self._listener)


def _new_name() -> bytes:
    return secrets.token_hex(8).encode()
