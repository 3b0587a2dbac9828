"""Who is at the other end: the addresses of a connection, in the forms that users ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import _socket

SocketAddress = tuple[Any, ...] | str | bytes | None
"""What the socket calls return: (host, port, …) for IP, a path (often empty) for unix, None if unknown."""


def ip(address: SocketAddress) -> str:
    """The IP address, without brackets; "" for unix sockets."""
    return str(address[0]) if isinstance(address, tuple) else ""


def port(address: SocketAddress) -> int:
    """The port; 0 for unix sockets."""
    return int(address[1]) if isinstance(address, tuple) else 0


def text(address: SocketAddress) -> str:
    """`HOST:PORT` with IPv6 in brackets, or the path of a unix socket."""
    if isinstance(address, tuple):
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"{host}:{address[1]}"
    if isinstance(address, bytes):  # an abstract unix address (unix(7))
        return "@" + address[1:].decode(errors="replace")
    return address or ""


class Addresses:
    """The address attributes of every kind of connection, made from `_remote` and `_local()`."""

    __slots__ = ()

    _remote: SocketAddress

    def _local(self) -> SocketAddress:
        raise NotImplementedError

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
        address: SocketAddress = socket.getsockname()
    except OSError:
        return None
    return address
