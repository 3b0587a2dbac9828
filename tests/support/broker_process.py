"""A process with a broker, as the tests of brokers see it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from gworker.broker.interface import Broker, State


class Process:
    """Starts a broker, and keeps what it hears.

    heard: channel and payload of each message, in order.
    """

    def __init__(self, broker: Broker, wait: float = 5) -> None:
        self.broker = broker
        self.heard: list[tuple[bytes, bytes]] = []
        self.states: list[State] = []
        self.interrupted: list[tuple[list[bytes], float, float]] = []
        self.fenced = 0
        self._changed = threading.Condition()
        broker.start(self, wait)

    @property
    def name(self) -> bytes:
        return self.broker.process

    def call(self, operation: str, channel: bytes, *arguments: bytes | int) -> Any:
        return self.broker.call(operation, channel, *map(as_bytes, arguments))

    def subscribe(self, *channels: bytes) -> None:
        self.broker.subscribe(channels)

    def payloads(self, channel: bytes) -> list[bytes]:
        return [payload for of, payload in list(self.heard) if of == channel]

    def wait_for(self, condition: Callable[[], object], seconds: float = 10) -> None:
        """Until something has been heard that makes it true."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, f"not within {seconds} s; heard {self.heard[-5:]}"
                self._changed.wait(left)

    def wait_for_payloads(self, channel: bytes, count: int) -> list[bytes]:
        self.wait_for(lambda: len(self.payloads(channel)) >= count)
        return self.payloads(channel)

    # -- what the broker tells

    def on_message(self, channel: bytes, payload: bytes) -> None:
        with self._changed:
            self.heard.append((channel, payload))
            self._changed.notify_all()

    def on_state(self, state: State) -> None:
        with self._changed:
            self.states.append(state)
            self._changed.notify_all()

    def on_interrupted(self, channels: Sequence[bytes], since: float, until: float) -> None:
        with self._changed:
            self.interrupted.append((list(channels), since, until))
            self._changed.notify_all()

    def on_fenced(self) -> None:
        with self._changed:
            self.fenced += 1
            self._changed.notify_all()


def as_bytes(argument: bytes | int) -> bytes:
    return argument if isinstance(argument, bytes) else b"%d" % argument
