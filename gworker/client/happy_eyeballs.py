"""A connected socket: names are resolved, and for TCP the addresses race (RFC 8305, 4 and 5).

`Race` is the plan of attempts, without sockets or a clock. The rest is straight-line code for a
greenlet, which may be killed at any of its waits; it leaves no socket open then.
"""

from __future__ import annotations

import _socket
import errno
import os
import time
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

import gevent
from gevent import get_hub, socket
from gevent.event import Event

from gworker.system.epoll import WRITE
from gworker.system.peer_address import text
from gworker.system.socket_options import tune

if TYPE_CHECKING:
    from gworker.system.event_loop import IoWatcher

# Between two tries while the queue of a unix listener is full: there is nothing to wait on
# (connect(2), EAGAIN).
UNIX_RETRY_SECONDS = 0.02

# Seconds that an attempt has for itself before the next one begins (RFC 8305, 5: the Connection
# Attempt Delay).
STAGGER = 0.25

Item = TypeVar("Item")
Found = tuple[int, tuple[Any, ...]]  # (address family, address) to connect to

OnStage = Callable[[str], None]  # gets, in a few words, what is being waited for


class DialError(Exception):
    """The connect failed. The message names the address and the reason."""


def reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def wait(descriptor: int, events: int) -> None:
    # Block this greenlet until `descriptor` is readable (1) or writable (2).
    hub = get_hub()
    watcher = hub.loop.io(descriptor, events)
    try:
        hub.wait(watcher)
    finally:
        watcher.stop()
        watcher.close()


# ---- addresses


def resolve(host: str, port: int, kind: int, on_stage: OnStage) -> list[Found]:
    """The addresses of a host, in the order in which they are to be tried. Raises DialError."""
    on_stage(f"the address of {host}")
    try:
        found = socket.getaddrinfo(host, port, 0, kind)  # gevent's: in a thread of its pool
    except (OSError, UnicodeError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise DialError(f"{host}: no address: {why}") from error
    return interleave([(int(family), address) for family, _, _, _, address in found])


def _open_socket(family: int, kind: int, source: tuple[str, int] | None) -> _socket.socket:
    made = _socket.socket(family, kind | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
    made.setblocking(False)
    try:
        if kind == _socket.SOCK_STREAM and family != _socket.AF_UNIX:
            tune(made)
        if source is not None:
            made.bind(source)
    except BaseException:
        made.close()
        raise
    return made


# ---- the plan


def interleave(addresses: Sequence[tuple[int, Item]]) -> list[tuple[int, Item]]:
    # (family, address) pairs in the order of attempts: families take turns (RFC 8305, 4). The
    # resolver's order (RFC 6724) decides which family is first, and holds within each family.
    # Duplicates are dropped.
    families: dict[int, list[tuple[int, Item]]] = {}
    for pair in addresses:
        same = families.setdefault(pair[0], [])
        if pair not in same:
            same.append(pair)
    turns = zip_longest(*families.values())
    return [pair for pair in chain.from_iterable(turns) if pair is not None]


class Race:
    """When each of `count` attempts begins: after `stagger` seconds, or when another has failed."""

    def __init__(self, count: int, stagger: float = STAGGER) -> None:
        self._count = count
        self._stagger = stagger
        self._begun = 0
        self._failed = 0
        self._due = 0.0

    @property
    def is_over(self) -> bool:
        return self._failed == self._count

    def begin(self, now: float) -> int | None:
        # The index of the attempt to begin at `now` (seconds of any clock), or None.
        if self._begun == self._count or now < self._due:
            return None
        self._due = now + self._stagger
        self._begun += 1
        return self._begun - 1

    def failed(self) -> None:
        self._failed += 1
        self._due = 0.0

    def wait(self, now: float) -> float | None:
        # Seconds from `now` until the next attempt is due; None if all have begun.
        return None if self._begun == self._count else max(0.0, self._due - now)


# ---- tcp


class Attempt:
    """One connect(2) under way. error: errno; 0: connected; None: not known yet."""

    def __init__(
        self, found: Found, source: tuple[str, int] | None, on_change: Callable[[], object]
    ) -> None:
        family, self.address = found
        self.socket = _open_socket(family, _socket.SOCK_STREAM, source)
        self.error: int | None = None
        self._on_change = on_change
        self._watcher: IoWatcher = get_hub().loop.io(self.socket.fileno(), WRITE)
        error = self.socket.connect_ex(self.address)
        if error == errno.EINPROGRESS:
            self._watcher.start(self._on_writable)
        else:
            self.error = error

    def _on_writable(self) -> None:
        self._watcher.stop()
        self.error = self.socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        self._on_change()

    def release(self, keep: bool = False) -> None:
        self._watcher.stop()
        self._watcher.close()
        if not keep:
            self.socket.close()


class Contest:
    """The attempts that are under way to reach one of several addresses."""

    def __init__(self, found: list[Found], source: tuple[str, int] | None) -> None:
        self._found = found
        self._source = source
        self._race = Race(len(found))
        self._running: list[Attempt] = []
        self._failures: list[str] = []
        self._changed = Event()

    def run(self) -> _socket.socket:
        # The socket of the first that is connected. Raises DialError when all have failed.
        try:
            while not self._race.is_over:
                index = self._race.begin(time.monotonic())
                if index is not None:
                    self._begin(self._found[index])
                winner = self._look()
                if winner is not None:
                    return winner
                if not self._race.is_over:
                    self._changed.wait(self._race.wait(time.monotonic()))
                    self._changed.clear()
            raise DialError("; ".join(self._failures))
        finally:
            for attempt in self._running:
                attempt.release()

    def _begin(self, found: Found) -> None:
        try:
            self._running.append(Attempt(found, self._source, self._changed.set))
        except OSError as error:  # no such family, no descriptor, or the wrong source address
            source = "" if self._source is None else f" from {text(self._source)}"
            self._failed(f"{text(found[1])}{source}: {reason(error)}")

    def _look(self) -> _socket.socket | None:
        for attempt in [each for each in self._running if each.error is not None]:
            self._running.remove(attempt)
            attempt.release(keep=not attempt.error)
            if not attempt.error:
                return attempt.socket
            self._failed(f"{text(attempt.address)}: {os.strerror(attempt.error)}")
        return None

    def _failed(self, why: str) -> None:
        self._failures.append(why)
        self._race.failed()


def dial_tcp(
    host: str, port: int, source: tuple[str, int] | None, on_stage: OnStage
) -> _socket.socket:
    """The first address of `host` that answers. Raises DialError."""
    found = resolve(host, port, _socket.SOCK_STREAM, on_stage)
    on_stage(" and ".join(text(address) for _, address in found))
    return Contest(found, source).run()


# ---- unix, udp


def dial_unix(path: str, on_stage: OnStage) -> _socket.socket:
    """A socket connected to `path`; `@name` is an abstract address (unix(7)). Raises DialError."""
    on_stage(path)
    made = _open_socket(_socket.AF_UNIX, _socket.SOCK_STREAM, None)
    error: int | None = None
    try:
        while (
            error := made.connect_ex(path if path[0] == "/" else f"\0{path[1:]}")
        ) == errno.EAGAIN:
            gevent.sleep(UNIX_RETRY_SECONDS)
    finally:
        if error != 0:
            made.close()
    if error:
        raise DialError(f"{path}: {os.strerror(error)}")
    return made


def dial_udp(
    host: str, port: int, source: tuple[str, int] | None, on_stage: OnStage
) -> _socket.socket:
    """A socket for the first address with a route: a connect(2) of UDP gets no answer. Raises
    DialError."""
    failures = []
    for family, address in resolve(host, port, _socket.SOCK_DGRAM, on_stage):
        try:
            made = _open_socket(family, _socket.SOCK_DGRAM, source)
        except OSError as error:
            failures.append(f"{text(address)}: {reason(error)}")
            continue
        number = made.connect_ex(address)
        if not number:
            return made
        made.close()
        failures.append(f"{text(address)}: {os.strerror(number)}")
    raise DialError("; ".join(failures))
