"""The line between the arbiter and one worker process: JSON messages, with descriptors if need be.

A SOCK_SEQPACKET pair keeps messages whole, and its end-of-file tells each side of the other's death
(unix(7)). Both sides use it: the arbiter from its selector loop, the worker process from its hub.
"""

from __future__ import annotations

import _socket
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

MAX_MESSAGE = 256 * 1024
"""Bytes of one message: more than the kernel's default send buffer lets through, so none is ever
cut in two."""

MAX_TEXT = 8192
"""Characters of a text; of a longer one the end is sent. JSON makes up to six bytes of each."""

MAX_DESCRIPTORS = 8


CHUNK = 24 * 1024
"""Characters of paths in one message (and one path more): it fits whatever they are."""


def chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """`texts`, as many at a time as one message takes."""
    chunk: list[str] = []
    length = 0
    for text in texts:
        chunk.append(text)
        length += len(text)
        if length > CHUNK:
            yield chunk
            chunk, length = [], 0
    if chunk:
        yield chunk


def pair() -> tuple[Channel, Channel]:
    """The arbiter's end and the worker's end."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return Channel(ours), Channel(theirs)


class Channel:
    """One end. Never blocks."""

    def __init__(self, socket: _socket.socket) -> None:
        socket.setblocking(False)
        self._socket = socket

    @classmethod
    def inherited(cls, descriptor: int) -> Channel:
        """An end that was open before an exec."""
        return cls(_socket.socket(fileno=descriptor))

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> bool:
        """Send one message. False: the other end is gone, has not read for a long time, or it is
        too big."""
        cut = {
            key: value[-MAX_TEXT:] if isinstance(value, str) else value
            for key, value in message.items()
        }
        rights = (
            [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", descriptors).tobytes())]
            if descriptors
            else []
        )
        try:
            self._socket.sendmsg([json.dumps(cut).encode()], rights)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        """The next message and its descriptors; None at end of file.

        Raises BlockingIOError if there is none yet, ValueError for one that is no JSON object.
        """
        try:
            data, ancillary = self._receive()
        except ConnectionResetError:
            # The other end has died with something unread. That is told first; what it had said is
            # still there.
            data, ancillary = self._receive()
        except BlockingIOError:
            raise
        except OSError:
            return None, []
        descriptors = array("i")
        for level, kind, payload in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
        if not data:
            return None, []
        message = _parse(data)
        if message is None:
            for descriptor in descriptors:
                os.close(descriptor)
            raise ValueError(f"no message: {data[:100]!r}")
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        return message, list(descriptors)

    def _receive(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        data, ancillary, _, _ = self._socket.recvmsg(
            MAX_MESSAGE, _socket.CMSG_LEN(MAX_DESCRIPTORS * 4)
        )
        return data, ancillary

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def _parse(data: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
