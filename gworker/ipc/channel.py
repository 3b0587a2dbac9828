"""The line between the arbiter and one worker process: JSON messages, with descriptors if need be.

A SOCK_SEQPACKET pair keeps messages whole, and its end-of-file tells each side of the other's death
(unix(7)). Both sides use it: the arbiter from its selector loop, the worker process from its hub.
"""

from __future__ import annotations

import _socket
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gworker.ipc import fd_socket
from gworker.ipc.fd_socket import Message

# Bytes of one message: more than the kernel's default send buffer lets through, so none is ever cut
# in two.
MAX_MESSAGE = 256 * 1024

# Characters of a text; of a longer one the end is sent. JSON makes up to six bytes of each.
MAX_TEXT = 8192

MAX_DESCRIPTORS = 8

# Characters of paths in one message (and one path more): it fits whatever they are.
CHUNK = 24 * 1024


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
    return Channel(ours.detach()), Channel(theirs.detach())


class Channel:
    """One end, which owns its descriptor. Never blocks."""

    def __init__(self, descriptor: int) -> None:
        self._socket = _socket.socket(fileno=descriptor)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Mapping[str, object], descriptors: Sequence[int] = ()) -> bool:
        """Send one message. False: the other end is gone, has not read for a long time, or it is
        too big."""
        cut = {
            key: value[-MAX_TEXT:] if isinstance(value, str) else value
            for key, value in message.items()
        }
        try:
            fd_socket.send_message(self._socket, cut, descriptors)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[Message | None, list[int]]:
        """The next message and its descriptors; None at end of file.

        Raises BlockingIOError if there is none yet, ValueError for one that is no JSON object.
        """
        try:
            return fd_socket.receive_message(self._socket, MAX_MESSAGE, MAX_DESCRIPTORS)
        except BlockingIOError:
            raise
        except OSError:
            return None, []

    def close(self) -> None:
        self._socket.close()
