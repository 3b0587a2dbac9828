"""Socket activation: sockets that a service manager has bound and passed on, as sd_listen_fds(3)
describes.

They are descriptors 3, 4, …: LISTEN_FDS says how many, LISTEN_PID for which process, and
LISTEN_FDNAMES what they are called. A Worker gets the one that has its name; else the one that is
bound where the Worker wants to listen. The manager keeps its own copies, so connections wait in the
kernel's queue even while no instance runs.

What is handed out are duplicates: a reload may drop a Worker and a later one may bring it back.
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass

from gworker.errors import ConfigError
from gworker.system.address import Address
from gworker.system.peer_address import text

log = logging.getLogger("gworker")

FIRST = 3  # SD_LISTEN_FDS_START

MOST = 1024  # descriptors; a larger number is an error

VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


@dataclass(frozen=True, slots=True)
class Inherited:
    descriptor: int
    name: str


def inherited(
    environment: MutableMapping[str, str], pid: int, complaints: list[str]
) -> list[Inherited]:
    """The descriptors that `environment` says process `pid` was given; its variables are removed.

    They become close-on-exec. Raises ConfigError for variables that make no sense, naming them.
    """
    given = {name: environment.pop(name, "") for name in VARIABLES}
    if not given["LISTEN_PID"] or not given["LISTEN_FDS"]:
        return []
    meant, count = _number(given, "LISTEN_PID", 2**31), _number(given, "LISTEN_FDS", MOST)
    if meant != pid:
        complaints.append(
            f"LISTEN_PID={meant} is another process: the {count} sockets passed to it are not used"
        )
        return []
    # Without names each is "unknown", as in sd_listen_fds_with_names(3).
    names = given["LISTEN_FDNAMES"].split(":") if given["LISTEN_FDNAMES"] else ["unknown"] * count
    if len(names) != count:
        raise ConfigError(
            f"LISTEN_FDNAMES={given['LISTEN_FDNAMES']!r} has {len(names)} names for "
            f"LISTEN_FDS={count} sockets"
        )
    found = [Inherited(FIRST + number, name) for number, name in enumerate(names)]
    for each in found:
        try:
            os.set_inheritable(each.descriptor, False)
        except OSError:
            raise ConfigError(
                f"LISTEN_FDS={count}, but descriptor {each.descriptor} is not open"
            ) from None
    return found


def _number(given: dict[str, str], name: str, most: int) -> int:
    text = given[name]
    if not (text.isascii() and text.isdigit() and 0 <= int(text) <= most):
        raise ConfigError(f"{name}={text!r} is not a whole number up to {most}")
    return int(text)


class Activated:
    """The passed sockets: found by name, else by address."""

    def __init__(self, given: Iterable[Inherited] = ()) -> None:
        self._given = list(given)
        self._known_unwanted: set[int] = set()

    def descriptors(self) -> list[int]:
        return [each.descriptor for each in self._given]

    def environment(self, pid: int) -> dict[str, str]:
        """The environment variables from which process `pid` reads them (`inherited`)."""
        if not self._given:
            return {}
        names = ":".join(each.name for each in self._given)
        return {
            "LISTEN_PID": str(pid),
            "LISTEN_FDS": str(len(self._given)),
            "LISTEN_FDNAMES": names,
        }

    def find(self, worker: str, address: Address) -> _socket.socket | None:
        """A duplicate of the socket that Worker `worker` is to serve at `address`; None if none was
        passed.

        Raises ConfigError if the one that has its name cannot be served as that.
        """
        match = self._match(worker, address)
        if match is None:
            return None
        with _opened(match.descriptor) as sock:
            if fault := _fault(sock, address):
                where = f"the activated socket {match.name!r} (descriptor {match.descriptor})"
                raise ConfigError(f"Worker {worker!r} cannot listen on {where}: {fault}")
        return _socket.socket(fileno=os.dup(match.descriptor))

    def _match(self, worker: str, address: Address) -> Inherited | None:
        named = [each for each in self._given if each.name == worker]
        bound = (each for each in named or self._given if is_bound_to(each.descriptor, address))
        return next(bound, named[0] if named else None)

    def warn_of_unwanted(self, wanted: Iterable[tuple[str, Address]]) -> None:
        """Warn once of each socket that none of the `wanted` (Worker, address) takes."""
        matches = [self._match(worker, address) for worker, address in wanted]
        taken = {match.descriptor for match in matches if match}
        for each in self._given:
            if each.descriptor in taken | self._known_unwanted:
                continue
            self._known_unwanted.add(each.descriptor)
            with _opened(each.descriptor) as sock:
                where = "no socket" if sock is None else _describe(sock)
            log.warning(
                "no Worker wants the activated socket %r (descriptor %d, %s): it is not served",
                each.name, each.descriptor, where,
            )  # fmt: skip

    def close(self) -> None:
        """Close them all, at the end of the instance or in a child."""
        for each in self._given:
            os.close(each.descriptor)
        self._given.clear()


@contextlib.contextmanager
def _opened(descriptor: int) -> Iterator[socket.socket | None]:
    # A duplicate that answers questions; None if it is no socket.
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            yield sock
    else:
        yield None


def _fault(sock: socket.socket | None, address: Address) -> str:
    # Why this socket cannot be served as `address`; "" if it can.
    if sock is None:
        return "it is not a socket"
    is_udp = address.transport == "udp"
    kind = socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM
    if sock.type != kind or (is_udp and sock.family == socket.AF_UNIX):
        needs = "datagram socket (ListenDatagram=)" if is_udp else "stream socket (ListenStream=)"
        return f"{address.url} needs a {needs}, and it is {_describe(sock)}"
    if not is_udp and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "it does not listen: a socket unit must say Accept=no"
    return ""


def is_bound_to(descriptor: int, address: Address) -> bool:
    """True if this is a socket of the kind and at the address that `address` means.

    A socket for all addresses that takes both IPv6 and IPv4, as `ListenStream=8000` makes, is also
    `0.0.0.0`.
    """
    with _opened(descriptor) as sock:
        if sock is None or _fault(sock, address):
            return False
        bound, is_unix = sock.getsockname(), sock.family == socket.AF_UNIX
        if is_unix or address.transport == "unix":
            return is_unix and address.transport == "unix" and text(bound) == address.path
        if address.port == 0 or bound[1] != address.port:
            return False
        if bound[0] == "::" and address.host == "0.0.0.0":
            return not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        try:
            found = socket.getaddrinfo(
                address.host, address.port, sock.family, sock.type, 0, socket.AI_PASSIVE
            )
        except OSError:  # no such host, or none in this family
            return False
        return any(target[4][0] == bound[0] for target in found)


def shown(sock: _socket.socket, address: Address) -> Address:
    """The address of `sock`, with the scheme of `address`."""
    bound = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return Address(address.scheme, "unix", path=text(bound), tls=address.tls)
    return Address(
        address.scheme,
        "udp" if address.transport == "udp" else "tcp",
        bound[0],
        bound[1],
        tls=address.tls,
    )


def _describe(sock: socket.socket) -> str:
    kind = "datagram" if sock.type == socket.SOCK_DGRAM else sock.type.name[5:].lower()
    return f"{kind} at {text(sock.getsockname()) or 'no address'}"
