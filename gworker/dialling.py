"""Getting a connected socket: names, addresses that race, proxies, TLS. Straight-line code in a greenlet of its own.

`dial` may be killed (`greenlet.GreenletExit`) at any of its waits, which is how a deadline or `close()` ends it;
it leaves no socket behind then.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent
from gevent import get_hub, socket
from gevent.event import Event

from gworker.errors import ProtocolError
from gworker.eyeballs import Race, interleave
from gworker.peer import SocketAddress, text
from gworker.protocols.http_connect import HttpConnect
from gworker.protocols.socks5 import Socks5
from gworker.target import Proxy, Target, authority

READ, WRITE = 1, 2

UNIX_RETRY_SECONDS = 0.02
"""Between two tries while the queue of a unix listener is full: there is nothing to wait on (connect(2), EAGAIN)."""

PEEK_SIZE = 4096


class NoSocket:
    """What stands for the socket while there is none."""

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

Found = tuple[int, SocketAddress]
"""(address family, address) of a socket to be connected."""

Wrap = Callable[[_socket.socket], Any]
"""What makes a TLS socket of a connected one, in the dialling greenlet. Raises OSError."""


class DialError(Exception):
    """It is not connected. The message says why and names the address."""


@dataclass(frozen=True, slots=True)
class Route:
    """What is dialled, and how. `source`: (host, port) to connect from."""

    target: Target
    proxy: Proxy | None = None
    source: tuple[str, int] | None = None
    wrap: Wrap | None = None


def dial(route: Route, tell: Callable[[str], None]) -> tuple[Any, SocketAddress]:
    """Return a connected, non-blocking socket and the address of its peer. Raises DialError.

    tell: hears, in a few words, what is being waited for.
    """
    target, proxy = route.target, route.proxy
    if target.transport == "unix":
        plain: _socket.socket = _dial_unix(target, tell)
    elif target.transport == "udp":
        plain = _dial_udp(route, tell)
    elif proxy is None:
        plain = _race(_resolve(target.host, target.port, _socket.SOCK_STREAM, tell), route.source, tell)
    else:
        plain = _through(proxy, route, tell)
    try:
        remote: SocketAddress = plain.getpeername()
        if route.wrap is None:
            return plain, remote
        tell(f"the TLS handshake with {target}")
        return route.wrap(plain), remote
    except OSError as error:
        plain.close()
        raise DialError(f"TLS handshake with {target}: {reason(error)}") from error
    except BaseException:
        plain.close()
        raise


def reason(error: OSError) -> str:
    """What the system says, in its words."""
    return error.strerror or str(error) or type(error).__name__


def wait(descriptor: int, events: int) -> None:
    """Block this greenlet until `descriptor` is readable (1) or writable (2)."""
    hub = get_hub()
    watcher = hub.loop.io(descriptor, events)
    try:
        hub.wait(watcher)
    finally:
        watcher.stop()
        watcher.close()


# ---- addresses


def _resolve(host: str, port: int, kind: int, tell: Callable[[str], None]) -> list[Found]:
    tell(f"the address of {host}")
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
        if source is not None:
            made.bind(source)
    except BaseException:
        made.close()
        raise
    return made


# ---- tcp


class Attempt:
    """One connect(2) under way. `error`: errno; 0: it is connected; None: it is not known yet."""

    def __init__(self, found: Found, source: tuple[str, int] | None, on_change: Callable[[], object]) -> None:
        family, self.address = found
        self.socket = _open_socket(family, _socket.SOCK_STREAM, source)
        self.error: int | None = None
        self._on_change = on_change
        self._watcher: Any = get_hub().loop.io(self.socket.fileno(), WRITE)
        error = self.socket.connect_ex(self.address)
        if error == errno.EINPROGRESS:
            self._watcher.start(self._on_writable)
        else:
            self.error = error

    def _on_writable(self) -> None:
        self._watcher.stop()
        self.error = self.socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        self._on_change()

    def let_go(self, keep: bool = False) -> None:
        """Watch it no longer, and close the socket unless it is to be kept."""
        self._watcher.stop()
        self._watcher.close()
        if not keep:
            self.socket.close()


def _race(found: list[Found], source: tuple[str, int] | None, tell: Callable[[str], None]) -> _socket.socket:
    """The first of several addresses that answers."""
    tell(" and ".join(text(address) for _, address in found))
    race, changed = Race(len(found)), Event()
    running: list[Attempt] = []
    failures: list[str] = []
    try:
        while True:
            index = race.begin(time.monotonic())
            if index is not None:
                _begin(found[index], source, changed.set, running, failures, race)
            for attempt in list(running):
                if attempt.error == 0:
                    running.remove(attempt)
                    attempt.let_go(keep=True)
                    return attempt.socket
                if attempt.error is not None:
                    running.remove(attempt)
                    attempt.let_go()
                    failures.append(f"{text(attempt.address)}: {os.strerror(attempt.error)}")
                    race.failed()
            if race.is_over:
                raise DialError("; ".join(failures))
            changed.wait(race.wait(time.monotonic()))
            changed.clear()
    finally:
        for attempt in running:
            attempt.let_go()


def _begin(
    found: Found, source: tuple[str, int] | None, on_change: Callable[[], object], running: list[Attempt],
    failures: list[str], race: Race,
) -> None:  # fmt: skip
    try:
        running.append(Attempt(found, source, on_change))
    except OSError as error:  # no such family here, no descriptor, or the source address does not fit
        where = text(found[1]) if source is None else f"{text(found[1])} from {text(source)}"
        failures.append(f"{where}: {reason(error)}")
        race.failed()


# ---- unix, udp


def _dial_unix(target: Target, tell: Callable[[str], None]) -> _socket.socket:
    path = target.path if target.path.startswith("/") else f"\0{target.path[1:]}"
    tell(target.path)
    made = _open_socket(_socket.AF_UNIX, _socket.SOCK_STREAM, None)
    try:
        while (error := made.connect_ex(path)) == errno.EAGAIN:
            gevent.sleep(UNIX_RETRY_SECONDS)
        if error:
            raise DialError(f"{target.path}: {os.strerror(error)}")
    except BaseException:
        made.close()
        raise
    return made


def _dial_udp(route: Route, tell: Callable[[str], None]) -> _socket.socket:
    """The first address for which there is a way. Nobody answers a connect(2) of UDP, so there is no race."""
    target, failures = route.target, []
    for family, address in _resolve(target.host, target.port, _socket.SOCK_DGRAM, tell):
        try:
            made = _open_socket(family, _socket.SOCK_DGRAM, route.source)
        except OSError as error:
            failures.append(f"{text(address)}: {reason(error)}")
            continue
        error_number = made.connect_ex(address)
        if not error_number:
            return made
        made.close()
        failures.append(f"{text(address)}: {os.strerror(error_number)}")
    raise DialError("; ".join(failures))


# ---- proxies


def _through(proxy: Proxy, route: Route, tell: Callable[[str], None]) -> _socket.socket:
    target = route.target
    host = target.host
    if proxy.scheme == "socks5":
        (_, address), *_ = _resolve(host, target.port, _socket.SOCK_STREAM, tell)
        host = str(address[0]) if isinstance(address, tuple) else host
    kind = HttpConnect if proxy.scheme == "http" else Socks5
    machine = kind(host, target.port, proxy.user, proxy.password)
    try:
        plain = _race(_resolve(proxy.host, proxy.port, _socket.SOCK_STREAM, tell), route.source, tell)
    except DialError as error:
        raise DialError(f"proxy {proxy}: {error}") from error
    tell(f"the proxy {proxy}")
    where = f"{authority(host, target.port)} through proxy {proxy}"
    try:
        _talk(plain, machine)
    except OSError as error:
        plain.close()
        raise DialError(f"{where}: {reason(error)}") from error
    except ProtocolError as error:
        plain.close()
        raise DialError(f"{where}: {error}") from error
    except BaseException:
        plain.close()
        raise
    return plain


def _talk(plain: _socket.socket, machine: Socks5 | HttpConnect) -> None:
    """Let the machine have its dialogue. What the destination has sent meanwhile stays in the socket."""
    while not machine.is_done:
        output = machine.data_to_send()
        while output:
            with contextlib.suppress(BlockingIOError):
                output = output[plain.send(output) :]
                continue
            wait(plain.fileno(), WRITE)
        try:
            seen = plain.recv(PEEK_SIZE, _socket.MSG_PEEK)
        except BlockingIOError:
            wait(plain.fileno(), READ)
            continue
        if not seen:
            raise ProtocolError("the proxy closed the connection")
        plain.recv(machine.take(seen))
