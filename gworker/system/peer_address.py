"""The addresses of a connection, in the forms that users ask for."""

from __future__ import annotations

import _socket
from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple

from gworker.system.address import authority, unmapped

# As socket calls return it: (host, port, …) for IP, a path (often empty) for unix, None if unknown.
SocketAddress = tuple[Any, ...] | str | bytes | None


CREDENTIALS = Struct("3i")  # struct ucred


class Proxied(tuple[Any, ...]):
    """The address (host, port) of a client that a proxy has named.

    proxy: the address of the proxy, which has connected.
    """

    proxy: SocketAddress

    def __new__(cls, client: tuple[str, int], proxy: SocketAddress) -> Proxied:
        made = super().__new__(cls, client)
        made.proxy = proxy
        return made

    def __reduce__(self) -> tuple[type[Proxied], tuple[object, ...]]:
        return Proxied, (tuple(self), self.proxy)


def connected(address: SocketAddress) -> SocketAddress:
    """The address of the peer of the socket: of the proxy, if `address` was named by one."""
    return address.proxy if isinstance(address, Proxied) else address


class Credentials(NamedTuple):
    """The process at the other end of a unix socket, as it was when it connected (unix(7),
    SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


UNKNOWN = Credentials(0, -1, -1)


def credentials_of(socket: _socket.socket) -> Credentials | None:
    """The process at the other end of a unix socket; None for other sockets, and once closed."""
    if socket.family != _socket.AF_UNIX:
        return None
    try:
        packed = socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, CREDENTIALS.size)
    except OSError:
        return None
    return Credentials(*CREDENTIALS.unpack(packed))


def ip(address: SocketAddress) -> str:
    """The IP address, without brackets, an IPv4 address also on `::`. "" for unix sockets."""
    return unmapped(str(address[0])) if isinstance(address, tuple) else ""


def port(address: SocketAddress) -> int:
    """The port; 0 for unix sockets."""
    return int(address[1]) if isinstance(address, tuple) else 0


def text(address: SocketAddress) -> str:
    """`HOST:PORT` with IPv6 in brackets, or the path of a unix socket."""
    if isinstance(address, tuple):
        return authority(unmapped(address[0]), address[1])
    if isinstance(address, bytes):  # an abstract unix address (unix(7))
        return "@" + address[1:].decode(errors="replace")
    return address or ""


class Addresses:
    """The address attributes of every kind of connection, made from `_remote` and `_local()`."""

    __slots__ = ()

    _remote: SocketAddress

    _local: Callable[[], SocketAddress]

    @property
    def remote_ip(self) -> str:
        """The peer's IP address; "" for unix sockets."""
        return ip(self._remote)

    @property
    def remote_port(self) -> int:
        """The peer's port; 0 for unix sockets."""
        return port(self._remote)

    @property
    def remote_address(self) -> str:
        """The peer as `HOST:PORT`; "" for unix sockets."""
        return text(self._remote)

    @property
    def proxy_address(self) -> str:
        """The proxy that has named this client with the PROXY protocol, as `HOST:PORT`; "" if there
        is none.

        "unix" for one that has connected over a unix socket.
        """
        remote = self._remote
        return (text(remote.proxy) or "unix") if isinstance(remote, Proxied) else ""

    @property
    def local_ip(self) -> str:
        """Our IP address; "" for unix sockets, and once the connection is closed."""
        return ip(self._local())

    @property
    def local_port(self) -> int:
        """Our port; 0 for unix sockets, and once the connection is closed."""
        return port(self._local())

    @property
    def local_address(self) -> str:
        """Our side as `HOST:PORT` or a path; "" once the connection is closed."""
        return text(self._local())


def local_of(socket: _socket.socket) -> SocketAddress:
    """The socket's own address; None once it is closed."""
    try:
        return socket.getsockname()  # type: ignore[no-any-return]
    except OSError:
        return None
