"""Binding an address: stream listeners and datagram sockets, with an error that says why not."""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gworker.errors import ConfigError
from gworker.system import child_processes, pktinfo
from gworker.system.address import Address
from gworker.system.socket_options import closed_on_error, tune
from gworker.system.unix_socket import UnixFile, bind_file

DEFAULT_FILE = UnixFile()

# What `localhost` is, whatever a resolver says (RFC 6761, 6.3): clients try both.
LOCALHOST = ("127.0.0.1", "::1")

# Ports that are tried for one that is free in both families, where the kernel chooses.
PORT_TRIES = 20

MOST_HOLDERS = 3  # processes that are named for an address in use


class InUseError(ConfigError):
    """The address is taken."""


class UnavailableError(ConfigError):
    """The machine has no such address, or not its family."""


KINDS = {
    errno.EADDRINUSE: InUseError,
    errno.EADDRNOTAVAIL: UnavailableError,
    errno.EAFNOSUPPORT: UnavailableError,
}


@contextlib.contextmanager
def _refusals(address: Address) -> Iterator[None]:
    # Around what binds `address`: what goes wrong is a ConfigError that says why.
    try:
        yield
    except OSError as error:
        kind_of_error = KINDS.get(error.errno or 0, ConfigError)
        raise kind_of_error(f"cannot listen on {address.url}: {_reason(error, address)}") from None
    except ValueError as error:  # a host name that IDNA refuses, a path with a zero byte
        raise ConfigError(f"cannot listen on {address.url!r}: {error}") from None


def bind(
    address: Address,
    *,
    backlog: int,
    shared: bool = False,
    file: UnixFile = DEFAULT_FILE,
) -> _socket.socket:
    """Return a bound (and, unless it is UDP, listening) non-blocking socket. Raises ConfigError
    saying why not.

    shared: other sockets may be bound to the same port, and the kernel spreads what comes over them
    (SO_REUSEPORT). It tests that all of them say so, and that they are the same user's; it means
    nothing to a unix socket.
    file: mode and owner of a unix socket.
    """
    with _refusals(address):
        family, kind, target = _resolve(address)
        socket = _socket.socket(family, kind | _socket.SOCK_NONBLOCK)
        with closed_on_error(socket):
            if family != _socket.AF_UNIX:
                _prepare(socket, address, shared)
            if address.transport == "unix" and not address.is_abstract:
                bind_file(socket, address.path, file, backlog)
            else:
                socket.bind(target)
                if kind == _socket.SOCK_STREAM:
                    socket.listen(backlog)
            if kind == _socket.SOCK_DGRAM:
                pktinfo.ask(socket)
    return socket


def bind_all(address: Address, **options: Any) -> list[_socket.socket]:
    """`bind`; at `localhost` in each family that the machine has, at the same port. Raises
    ConfigError."""
    if address.transport == "unix" or address.host != "localhost":
        return [bind(address, **options)]
    for _ in range(0 if address.port else PORT_TRIES - 1):
        with contextlib.suppress(InUseError):
            return _bind_localhost(address, options)
    return _bind_localhost(address, options)


def _bind_localhost(address: Address, options: dict[str, Any]) -> list[_socket.socket]:
    made: list[_socket.socket] = []
    for host in LOCALHOST:
        port = made[0].getsockname()[1] if made else address.port
        try:
            made.append(bind(replace(address, host=host, port=port), **options))
        except UnavailableError:
            if host == LOCALHOST[-1] and not made:
                raise
        except ConfigError:
            for socket in made:
                socket.close()
            raise
    return made


def bound_address(socket: _socket.socket, address: Address) -> Address:
    """`address` with the port that the kernel chose, if it had to choose."""
    return address if address.transport == "unix" else address.with_port(socket.getsockname()[1])


def _resolve(address: Address) -> tuple[int, int, Any]:
    # Family and kind of the socket, and the address for bind(2).
    if address.transport == "unix":
        path = "\0" + address.path[1:] if address.is_abstract else address.path
        return _socket.AF_UNIX, _socket.SOCK_STREAM, path
    kind = _socket.SOCK_DGRAM if address.transport == "udp" else _socket.SOCK_STREAM
    found = _socket.getaddrinfo(address.host, address.port, 0, kind, 0, _socket.AI_PASSIVE)
    return found[0][0], kind, found[0][4]


def _prepare(socket: _socket.socket, address: Address, reuse_port: bool) -> None:
    if address.transport == "tcp":
        socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        tune(socket)
    if reuse_port:
        socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
    if socket.family == _socket.AF_INET6:
        socket.setsockopt(
            _socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0 if address.host == "::" else 1
        )


def _reason(error: OSError, address: Address) -> str:
    if error.errno == errno.EADDRINUSE:
        pid = getattr(error, "pid", 0)
        pids = {pid} if pid else {_first(*each) for each in _holding(address)}
        named = ", ".join(map(child_processes.describe, sorted(pids)[:MOST_HOLDERS]))
        return f"the address is in use by another program{': ' if named else ''}{named}"
    if error.errno == errno.EACCES:
        what = (
            f"directory of {address.path}"
            if address.transport == "unix"
            else f"port {address.port}"
        )
        return f"not permitted for this user ({what})"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address.host} is not an address of this machine"
    return error.strerror or str(error)


# ---- which processes hold an address, as far as this user may see them


def _holding(address: Address) -> set[tuple[int, int]]:
    # Pid and descriptor of each process that listens there, else of each with a connection from
    # there, which takes a port, too.
    import psutil  # not needed for a start that succeeds

    try:
        found = [
            each
            for each in psutil.net_connections(address.transport)
            if each.pid and _is_at(each.laddr, address)
        ]
    except (psutil.Error, OSError):
        return set()
    listening = [each for each in found if each.status == psutil.CONN_LISTEN]
    return {(each.pid, each.fd) for each in listening or found if each.pid}


def _is_at(local: object, address: Address) -> bool:
    return local == address.path or (isinstance(local, tuple) and local[1:] == (address.port,))


def _first(pid: int, descriptor: int) -> int:
    # A process has inherited the socket if its parent holds it as well.
    with contextlib.suppress(OSError):
        socket = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        while (parent := child_processes.parent(pid)) and _holds(parent, socket):
            pid = parent
    return pid


def _holds(pid: int, socket: str) -> bool:
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since
            if os.readlink(f"/proc/{pid}/fd/{descriptor}") == socket:
                return True
    return False
