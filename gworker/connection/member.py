"""What the helpers of a process ask of its connections, and how they call into them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gworker.http.forwarded import Origin, PeerAddress

Isolate = Callable[[Callable[..., Any]], Callable[..., Any]]  # `ServerContext.isolate_errors`


class Registered(Protocol):
    """A connection, or a socket that is handled in place of one."""

    @property
    def id(self) -> int: ...
    @property
    def is_dialled(self) -> bool: ...
    @property
    def protocol(self) -> str: ...
    @property
    def remote_ip(self) -> str: ...
    @property
    def remote_address(self) -> str: ...
    @property
    def origin(self) -> Origin | PeerAddress:
        """Where its requests come from."""

    @property
    def peer_closed(self) -> bool: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def bytes_written(self) -> int: ...
    @property
    def send_queue(self) -> int: ...
    def let_go(self) -> None:
        """In a process that user code has forked: it is the parent's."""


class Member(Registered, Protocol):
    """A connection, as the timeouts of its process see it."""

    idle_mark: tuple[int, float] | None  # bytes_read at the last look, and since when

    @property
    def status(self) -> str: ...
    @property
    def unacknowledged(self) -> int: ...
    @property
    def is_idle(self) -> bool:
        """No handler runs, and nothing waits."""

    @property
    def is_held(self) -> bool:
        """It is not read, whatever the peer sends."""

    @property
    def is_resting(self) -> bool:
        """It is between two exchanges."""

    @property
    def unfinished(self) -> int | None:
        """Which message has come in part, as a number; None: none."""

    @property
    def io(self) -> object:
        """Its transport: another one after each time that it is dialled."""

    def ping(self) -> bool:
        """Ask the peer. False: that is not possible."""

    def is_silent(self, read: int, written: int) -> bool:
        """Whether nothing has come since `bytes_read` was `read`, and nothing went, unless -1,
        since `bytes_written` was `written`."""

    def expire(self) -> None:
        """The peer does not answer: end the connection."""

    def close(self, data: object = None, code: int = 1000, reason: str = "") -> None: ...
    def reset(self) -> None:
        """Close it with a reset."""
