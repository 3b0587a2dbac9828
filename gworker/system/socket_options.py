"""Socket options that gworker sets, and what the kernel tells of a socket.

For TCP, listeners are tuned, whose accepted sockets inherit the options, and dialled sockets.
"""

from __future__ import annotations

import _socket
import contextlib
import fcntl
import struct
import sys
import termios
from collections.abc import Iterator

# Seconds, seconds and probes after which the kernel gives up a silent peer (tcp(7)).
KEEPALIVE = ((_socket.TCP_KEEPIDLE, 55), (_socket.TCP_KEEPINTVL, 55), (_socket.TCP_KEEPCNT, 3))

# struct linger: on, for no time. A socket with it is closed with a reset (socket(7), SO_LINGER).
RESET = struct.pack("ii", 1, 0)

MOST_BUFFER = 1 << 30  # the most that setsockopt(2) takes; the kernel gives less (wmem_max)


@contextlib.contextmanager
def closed_on_error(socket: _socket.socket) -> Iterator[None]:
    """Around what prepares a socket that has just been made: it is closed if that fails."""
    try:
        yield
    except BaseException:
        socket.close()
        raise


def tune(socket: _socket.socket) -> None:
    """No delay for small writes, and keepalive probes for a silent peer (tcp(7), socket(7))."""
    socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        socket.setsockopt(_socket.IPPROTO_TCP, option, value)


def limit_send_buffer(socket: _socket.socket, size: float) -> None:
    """Limit what the kernel holds for a peer that reads nothing: to twice `size`, with its own
    overhead (socket(7)).

    size: bytes; 0: the kernel's own tuning, which holds up to 4 MB.
    """
    if size:
        socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, min(int(size), MOST_BUFFER))


def forget_unsent(socket: _socket.socket, seconds: float) -> None:
    """Drop the unsent bytes of a socket that is about to be closed if the peer takes none of them
    for `seconds`.

    Otherwise the kernel keeps them for minutes (tcp(7), TCP_USER_TIMEOUT), as with 0.
    """
    if seconds and socket.family in (_socket.AF_INET, _socket.AF_INET6) and untaken(socket):
        socket.setsockopt(
            _socket.IPPROTO_TCP, _socket.TCP_USER_TIMEOUT, max(1, int(seconds * 1000))
        )


def untaken(socket: _socket.socket) -> int:
    """Bytes that the local kernel has and the peer's kernel has not yet (tcp(7), unix(7):
    SIOCOUTQ).

    0 for a closed socket. Writing does not show whether a peer takes bytes: a socket is writable
    again only when a third of its buffer is free, and that may be megabytes.
    """
    try:
        return int.from_bytes(
            fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder
        )
    except (OSError, ValueError):
        return 0


def has_unread(socket: _socket.socket) -> bool:
    """True if a read would not block: bytes, the end or an error wait in the socket."""
    try:
        socket.recv(1, _socket.MSG_PEEK)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True
