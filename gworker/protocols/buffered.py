"""What the byte-stream protocols share: the bytes that are not yet messages.

The usual read holds one or several whole messages, so it is kept as it came (`bytes`), and `_pos`
says how much of it is consumed: nothing is copied or moved between messages. Only when a message is
still incomplete and more arrives does the rest move into a `bytearray`, which grows in amortised
linear time however small the pieces are.

Rules for subclasses:

- `_buffer` is b"" and `_pos` is 0 whenever everything is consumed, so that an idle connection holds
  no memory of its own.
- Every fault is raised by `_fail`. After it nothing is read, and the only event is EOF.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import Any
from typing import Protocol as TypingProtocol

from gworker.core import ReceiveBuffer
from gworker.errors import ProtocolError
from gworker.protocols.base import EOF, NEED_DATA, Control, Protocol


def to_bytes(
    message: object,
    protocol: str,
    accepted: str = "bytes, bytearray, memoryview, str, dict or list",
) -> bytes:
    """Return `message` as bytes, a str as UTF-8, dict and list as JSON. TypeError names what was
    given and what is taken."""
    if isinstance(message, bytes):
        return message
    if isinstance(message, str):
        return message.encode()
    if isinstance(message, (bytearray, memoryview)):
        return bytes(message)
    if isinstance(message, (dict, list)):
        # what speaks no HTTP does not load it before
        from gworker.http.json import to_json

        return to_json(message)
    raise wrong_type(message, protocol, accepted)


def wrong_type(message: object, protocol: str, accepted: str) -> TypeError:
    return TypeError(f"the {protocol} protocol sends {accepted}, not {type(message).__name__}")


def _pickled(
    buffer: ReceiveBuffer,
) -> tuple[Callable[..., ReceiveBuffer], tuple[int, bytes, bool, bytes]]:
    # What pickle(3) copies. The class has another name in each core.
    return _unpickled, (buffer.size, buffer.mask, buffer.is_watched, buffer.since(0))


def _unpickled(size: int, mask: bytes, is_watched: bool, content: bytes) -> ReceiveBuffer:
    return ReceiveBuffer(size, mask, is_watched, content)


copyreg.pickle(ReceiveBuffer, _pickled)


class Payload(TypingProtocol):
    """What collects the payload of one message. left: bytes that are to come."""

    @property
    def left(self) -> int: ...
    def add(self, data: memoryview, /) -> object: ...


class BufferedProtocol(Protocol):
    __slots__ = ("_buffer", "_ended", "_pos")

    has_pending: Any  # see below

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self._buffer: bytes | bytearray = b""
        self._pos = 0
        self._ended = False

    @property
    def is_partial(self) -> bool:
        return bool(self._buffer)

    def message_start(self, received: int) -> int | None:
        # Where the message begins, among all bytes of the connection.
        if not self._buffer or self.waiting_for():
            return None
        return received - (len(self._buffer) - self._pos)

    def receive_data(self, data: bytes) -> None:
        if self._buffer or self._ended or not data:
            self._receive_more(data)
        else:
            self._buffer = data

    def _receive_more(self, data: bytes) -> None:
        # Append to an incomplete message, or note the end. Bytes after the end are dropped.
        if not data:
            self._ended = True
        elif not self._ended:
            buffer = self._buffer
            if isinstance(buffer, bytes):
                buffer = bytearray(memoryview(buffer)[self._pos :])
                self._pos = 0
                self._buffer = buffer
            buffer += data

    def _consume(self, stop: int) -> None:
        # Forget everything before `stop`.
        buffer = self._buffer
        if stop >= len(buffer):
            self._buffer = b""
            self._pos = 0
        elif isinstance(buffer, bytes):
            self._pos = stop
        else:
            del buffer[:stop]  # moves a pointer, and gives the memory of a large message back

    def _move_into(self, payload: Payload) -> None:
        # Give `payload` what belongs to it of what is here.
        pos = self._pos
        with memoryview(self._buffer) as view, view[pos : pos + payload.left] as part:
            stop = pos + len(part)
            payload.add(part)
        self._consume(stop)

    def take_unparsed(self) -> bytes:
        rest = bytes(memoryview(self._buffer)[self._pos :])
        self._consume(len(self._buffer))
        return rest

    def _wait(self) -> Control:
        # The rest of a message is missing: NEED_DATA, or EOF if it can never come.
        if self._ended:
            self._consume(len(self._buffer))
            return EOF
        if self._pos:  # do not keep a whole read alive for its last bytes
            self._buffer = self._buffer[self._pos :]
            self._pos = 0
        return NEED_DATA

    def _fail(self, message: str, reply: bytes = b"") -> ProtocolError:
        # Return the error to raise; from now on nothing is stored and the only event is EOF.
        self._consume(len(self._buffer))
        self._ended = True
        return ProtocolError(message, reply)


# It is asked for each message, so it is the slot itself under another name, and no call.
BufferedProtocol.has_pending = vars(BufferedProtocol)["_buffer"]
