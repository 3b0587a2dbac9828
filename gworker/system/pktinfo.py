"""The local address that a datagram was sent to, so that the answer leaves from there (ip(7),
ipv6(7)).

A UDP socket that is bound to all addresses answers from the one that routing prefers. On a machine
with several, the peer then gets an answer from an address that it has not asked, and drops it.
"""

from __future__ import annotations

import _socket
from struct import Struct

from gworker.system.peer_address import SocketAddress

IP_PKTINFO = 8  # <linux/in.h>; Python has no name for it before 3.14

# By address family: what stands for all addresses, and the option that asks.
OPTIONS = {
    _socket.AF_INET: ("0.0.0.0", _socket.IPPROTO_IP, IP_PKTINFO),
    _socket.AF_INET6: ("::", _socket.IPPROTO_IPV6, _socket.IPV6_RECVPKTINFO),
}

# struct in_pktinfo: interface, local address, address in the head (perhaps of a multicast group).
_INFO4 = Struct("=i4s4s")
_INFO6 = Struct("=16si")  # struct in6_pktinfo: the address in the head, interface

SPACE = _socket.CMSG_SPACE(_INFO6.size)
NOWHERE = bytes(4)

# A local address, and the control message of sendmsg(2) with which a datagram leaves from it.
Way = tuple[str, list[tuple[int, int, bytes]]]


def ask(socket: _socket.socket) -> bool:
    """Have the kernel report it, if `socket` is bound to all addresses. True if it does."""
    everywhere, level, option = OPTIONS[socket.family]
    is_everywhere: bool = socket.getsockname()[0] == everywhere
    if is_everywhere:
        socket.setsockopt(level, option, 1)
    return is_everywhere


def receive(socket: _socket.socket, size: int) -> tuple[bytes, SocketAddress, Way | None]:
    """The next datagram, its sender, and the way back; None: any will do. Raises OSError."""
    data, ancillary, _, sender = socket.recvmsg(size, SPACE)
    return data, sender, way_back(ancillary)


def way_back(ancillary: list[tuple[int, int, bytes]]) -> Way | None:
    """The way for an answer, from the control messages of recvmsg(2)."""
    for level, kind, payload in ancillary:
        if (level, kind) == (_socket.IPPROTO_IP, IP_PKTINFO) and len(payload) == _INFO4.size:
            _, local, head = _INFO4.unpack(payload)
            local = head if local == NOWHERE else local  # it was queued before `ask`
            return _socket.inet_ntoa(local), [(level, kind, _INFO4.pack(0, local, NOWHERE))]
        if (level, kind) == (_socket.IPPROTO_IPV6, _socket.IPV6_PKTINFO) and len(
            payload
        ) == _INFO6.size:
            head, interface = _INFO6.unpack(payload)
            if head[0] == 0xFF:  # a multicast group: routing chooses
                return None
            is_link_local = head[0] == 0xFE and head[1] & 0xC0 == 0x80
            info = _INFO6.pack(head, interface if is_link_local else 0)
            return _socket.inet_ntop(_socket.AF_INET6, head), [(level, kind, info)]
    return None


def send(socket: _socket.socket, payload: bytes, way: Way | None, receiver: SocketAddress) -> int:
    """Send one datagram to `receiver`, from where `way` says. Raises OSError."""
    assert receiver is not None
    if way is None:
        return socket.sendto(payload, receiver)
    return socket.sendmsg([payload], way[1], 0, receiver)
