"""One attempt to connect, as a value: what is made of it, when the next one follows, how it comes
back."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gworker.client.dialer import Route
from gworker.protocols.base import Control, Protocol
from gworker.system.peer_address import SocketAddress


class NoSocket:
    """What stands for the socket while there is none."""

    family = -1

    def fileno(self) -> int:
        return -1

    def getsockname(self) -> SocketAddress:
        return None

    def close(self) -> None:
        """There is nothing to close."""


class NoWatcher:
    """What stands for its watcher."""

    def start(self, *_: Any) -> None:
        """There is nothing to read."""

    def stop(self) -> None:
        """Nothing was started."""

    def close(self) -> None:
        """There is nothing to give up."""


NO_SOCKET: Any = NoSocket()
NO_WATCHER: Any = NoWatcher()


class Dialled(Control):
    """The socket of attempt number `attempt` is connected. left: seconds of its deadline for what
    follows."""

    __slots__ = ("attempt", "left", "remote", "socket")

    def __init__(self, attempt: int, socket: Any, remote: SocketAddress, left: float) -> None:
        super().__init__("DIALLED")
        self.attempt = attempt
        self.socket = socket
        self.remote = remote
        self.left = left


@dataclass(frozen=True, slots=True)
class Plan:
    """What a connection is made of, each time that it is dialled. `protocol` makes one, for a
    largest message."""

    route: Route
    protocol: Callable[[int], Protocol]
    timeout: float = 10.0
    max_package_size: int | None = None
    max_send_buffer_size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def backoff(after: float, factor: float, most: float, jitter: float, failures: int) -> float:
    """Seconds until the next attempt after `failures` in a row."""
    try:
        delay = min(most, after * factor ** max(0, failures - 1))
    except OverflowError:
        delay = most
    return delay * (1 + jitter * random.uniform(-1, 1))
