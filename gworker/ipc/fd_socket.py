"""Data with descriptors over a unix socket (unix(7), SCM_RIGHTS): the one place that packs them.

Owns nothing. JSON messages need a socket that keeps them whole (SOCK_SEQPACKET).
"""

from __future__ import annotations

import _socket
import json
import os
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]  # a JSON object

MAX_DESCRIPTORS = 253  # SCM_MAX_FD: as many as the kernel puts into one message (unix(7))


def send(
    socket: _socket.socket, data: bytes, descriptors: Sequence[int] = (), flags: int = 0
) -> int:
    """Send `data`; return how many bytes went. The descriptors go with the first byte. Raises
    OSError."""
    if not descriptors:
        return socket.sendmsg([data], [], flags)
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", descriptors).tobytes())
    return socket.sendmsg([data], [rights], flags)


def receive(
    socket: _socket.socket, size: int, most: int = MAX_DESCRIPTORS
) -> tuple[bytes, list[int]]:
    """At most `size` bytes and `most` descriptors, which are close-on-exec; b"" at end of file.
    Raises OSError."""
    room, flags = _socket.CMSG_LEN(most * 4), _socket.MSG_CMSG_CLOEXEC
    try:
        data, ancillary, _, _ = socket.recvmsg(size, room, flags)
    except ConnectionResetError:
        # The other end has died with something unread. That is told first; what it had sent is
        # still there.
        data, ancillary, _, _ = socket.recvmsg(size, room, flags)
    descriptors = array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    return data, descriptors.tolist()


def send_message(
    socket: _socket.socket, message: Mapping[str, object], descriptors: Sequence[int] = ()
) -> None:
    send(socket, json.dumps(message).encode(), descriptors)


def receive_message(
    socket: _socket.socket, size: int, most: int = MAX_DESCRIPTORS
) -> tuple[Message | None, list[int]]:
    """The next JSON object and its descriptors; None at end of file.

    Raises OSError, and ValueError for data that is no JSON object; then its descriptors are closed.
    """
    data, descriptors = receive(socket, size, most)
    if not data and not descriptors:
        return None, []
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        message = None
    if isinstance(message, dict):
        return message, descriptors
    for descriptor in descriptors:
        os.close(descriptor)
    raise ValueError(f"no message: {data[:100]!r}")
