"""What sockets of ours are set to, and what the kernel tells of them.

For TCP, listeners are tuned, whose accepted sockets inherit that, and those that are dialled.
"""

from __future__ import annotations

import _socket
import fcntl
import struct
import sys
import termios

KEEPALIVE = ((_socket.TCP_KEEPIDLE, 55), (_socket.TCP_KEEPINTVL, 55), (_socket.TCP_KEEPCNT, 3))
"""Seconds and counts after which the kernel gives up a silent peer (tcp(7))."""

RESET = struct.pack("ii", 1, 0)
"""struct linger: on, for no time. A socket with it is closed with a reset (socket(7),
SO_LINGER)."""

MOST_BUFFER = 1 << 30
"""The largest buffer that setsockopt(2) can be asked for; the kernel gives less
(net.core.wmem_max)."""


def tune(socket: _socket.socket) -> None:
    """No delay for small writes, and keepalive probes for a silent peer (tcp(7), socket(7))."""
    socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        socket.setsockopt(_socket.IPPROTO_TCP, option, value)


def limit_send_buffer(socket: _socket.socket, size: float) -> None:
    """Let the kernel hold little for a peer that reads nothing: twice `size`, its own overhead
    included (socket(7)).

    size: bytes; 0: the kernel's own tuning, which gives such a peer up to 4 MB.
    """
    if size:
        socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, min(int(size), MOST_BUFFER))


def forget_unsent(socket: _socket.socket, seconds: float) -> None:
    """What a socket that is about to be closed still holds is dropped if the peer takes none of it
    for `seconds`.

    Else the kernel would keep it for minutes (tcp(7), TCP_USER_TIMEOUT). 0: it may.
    """
    if seconds and socket.family in (_socket.AF_INET, _socket.AF_INET6) and untaken(socket):
        socket.setsockopt(
            _socket.IPPROTO_TCP, _socket.TCP_USER_TIMEOUT, max(1, int(seconds * 1000))
        )


def untaken(socket: _socket.socket) -> int:
    """Bytes that the kernel has taken from us, and the peer's kernel not yet (tcp(7), unix(7):
    SIOCOUTQ).

    0 for a socket that is closed. Whether a peer takes what is sent to it is not seen by writing: a
    socket is writable again only when a third of its buffer is free, and that may be megabytes.
    """
    try:
        return int.from_bytes(
            fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder
        )
    except (OSError, ValueError):
        return 0
