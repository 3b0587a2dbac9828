"""What every TCP socket of ours is set to: listeners, whose accepted sockets inherit it, and those that are dialled."""

from __future__ import annotations

import _socket

KEEPALIVE = ((_socket.TCP_KEEPIDLE, 55), (_socket.TCP_KEEPINTVL, 55), (_socket.TCP_KEEPCNT, 3))
"""Seconds and counts after which the kernel gives up a silent peer (tcp(7))."""


def tune(socket: _socket.socket) -> None:
    """No delay for small writes, and keepalive probes for a silent peer (tcp(7), socket(7))."""
    socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        socket.setsockopt(_socket.IPPROTO_TCP, option, value)
