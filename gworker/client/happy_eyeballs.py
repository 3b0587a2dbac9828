"""A connected socket: names are resolved, and for TCP the addresses race (RFC 8305, 4 and 5).

Straight-line code for a greenlet, which may be killed at any of its waits; it leaves no socket open
then.
"""

from __future__ import annotations

import _socket
import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from select import POLLOUT
from typing import Any, TypeVar

import gevent
from gevent import socket
from gevent.select import poll

from gworker.system.peer_address import text
from gworker.system.socket_options import closed_on_error, tune

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


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def resolve(host: str, port: int, kind: int, on_stage: OnStage) -> list[Found]:
    """The addresses of a host, in the order in which they are to be tried. Raises DialError."""
    on_stage(f"the address of {host}")
    try:
        found = socket.getaddrinfo(host, port, 0, kind)  # gevent's: in a thread of its pool
    except (OSError, UnicodeError) as error:
        raise DialError(f"{host}: no address: {reason(error)}") from error
    return interleave([(int(family), address) for family, _, _, _, address in found])


def interleave(addresses: Sequence[tuple[int, Item]]) -> list[tuple[int, Item]]:
    # (family, address) pairs in the order of attempts: families take turns (RFC 8305, 4). The
    # resolver's order (RFC 6724) decides which family is first, and holds within each family.
    # Duplicates are dropped.
    families: dict[int, list[tuple[int, Item]]] = {}
    for pair in dict.fromkeys(addresses):
        families.setdefault(pair[0], []).append(pair)
    turns = zip_longest(*families.values())
    return [pair for pair in chain.from_iterable(turns) if pair is not None]


def race(
    found: Sequence[Found], kind: int, source: tuple[str, int] | None = None
) -> _socket.socket:
    """The socket of the first of `found` that is connected. Raises DialError when all have failed.

    An attempt begins STAGGER seconds after the one before it, or when another has failed.
    """
    left = deque(found)
    running: dict[_socket.socket, tuple[Any, ...]] = {}
    failures: list[str] = []
    is_due = True  # the next attempt
    try:
        while left or running:
            if left and is_due:
                family, address = left.popleft()
                try:
                    running[_open_socket(family, kind, source)] = address
                except OSError as error:  # no such family, no descriptor, or the wrong source
                    origin = "" if source is None else f" from {text(source)}"
                    failures.append(f"{text(address)}{origin}: {reason(error)}")
                    continue
            is_due = False
            waiting = poll()
            for made, address in list(running.items()):
                number = made.connect_ex(address)  # begins it, and later tells how it stands
                if number in (errno.EINPROGRESS, errno.EALREADY):
                    waiting.register(made.fileno(), POLLOUT)
                    continue
                del running[made]
                if not number:
                    return made
                made.close()
                failures.append(f"{text(address)}: {os.strerror(number)}")
                is_due = True
            if not is_due:
                is_due = not waiting.poll(STAGGER * 1000 if left else None)  # milliseconds
        raise DialError("; ".join(failures))
    finally:
        for made in running:
            made.close()


def _open_socket(family: int, kind: int, source: tuple[str, int] | None) -> _socket.socket:
    made = _socket.socket(family, kind | _socket.SOCK_NONBLOCK)
    with closed_on_error(made):
        if kind == _socket.SOCK_STREAM and family != _socket.AF_UNIX:
            tune(made)
        if source is not None:
            made.bind(source)
    return made


def dial_host(
    host: str, port: int, kind: int, source: tuple[str, int] | None, on_stage: OnStage
) -> _socket.socket:
    """The first address of `host` that answers; for UDP, which gets no answer to a connect(2), the
    first with a route. Raises DialError."""
    found = resolve(host, port, kind, on_stage)
    on_stage(" and ".join(text(address) for _, address in found))
    return race(found, kind, source)


def dial_unix(path: str, on_stage: OnStage) -> _socket.socket:
    """A socket connected to `path`; `@name` is an abstract address (unix(7)). Raises DialError."""
    on_stage(path)
    address = path if path[0] == "/" else f"\0{path[1:]}"
    made = _open_socket(_socket.AF_UNIX, _socket.SOCK_STREAM, None)
    with closed_on_error(made):
        while (number := made.connect_ex(address)) == errno.EAGAIN:
            gevent.sleep(UNIX_RETRY_SECONDS)
        if number:
            raise DialError(f"{path}: {os.strerror(number)}")
    return made
