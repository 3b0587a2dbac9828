"""Base class for users' own framings: three methods, no buffer, no sockets.

    class Netstring(PackageProtocol):
        def package_length(self, buffer): ...   # whole length of the next package, None = need more
        def decode(self, package): ...          # bytes of one package -> message
        def encode(self, message): ...          # message -> bytes

Each of them may raise ProtocolError, which ends the connection. Any other exception is a bug of the
subclass and passes through unchanged.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from gworker.errors import ProtocolError
from gworker.protocols.base import EOF, NEED_DATA
from gworker.protocols.buffered import BufferedProtocol

# Bytes that `package_length` gets first.
FIRST_LOOK = 256

# So many times as many it gets each time that those did not tell.
NEXT_LOOK = 8


class PackageProtocol(BufferedProtocol):
    """Cuts the byte stream into packages whose length `package_length` knows.

    A subclass needs no `__init__`; one that has it must take `max_package_size` and pass it on.
    """

    __slots__ = ("_length",)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.name:
            cls.name = cls.__name__

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self._length = 0  # of the package that is arriving; 0 = not known yet

    @abstractmethod
    def package_length(self, buffer: bytes) -> int | None:
        """Return the length in bytes of the package that `buffer` begins with, or None to get more.

        The length includes the package's own header. `buffer` is never empty and may hold less or
        more than one package, and less than what has arrived: after None this is called again with
        more, until there is no more. So tell it from the first few bytes where the format allows.
        """

    @abstractmethod
    def decode(self, package: bytes) -> Any:
        """Return the message in `package`, which is exactly as long as `package_length` said."""

    has_pending = BufferedProtocol.has_pending

    def next_event(self) -> object:
        buffer = self._buffer
        if not buffer:
            return EOF if self._ended else NEED_DATA
        pos = self._pos
        length = self._length or self._find_length(buffer, pos)
        if length is None:
            if len(buffer) - pos >= self.max_package_size:
                raise self._fail(f"no package within {self.max_package_size} bytes")
            return self._wait()
        if length > len(buffer) - pos:
            self._length = length
            return self._wait()
        package = bytes(buffer[pos : pos + length])
        self._length = 0
        self._consume(pos + length)
        try:
            return self.decode(package)
        except ProtocolError as error:
            raise self._fail(str(error), error.reply) from error

    def _find_length(self, buffer: bytes | bytearray, pos: int) -> int | None:
        # Ask with the first bytes, and with more only if those do not tell: else each package would
        # copy the rest.
        size, here = FIRST_LOOK, len(buffer) - pos
        while (length := self._ask_length(bytes(buffer[pos : pos + size]))) is None and size < here:
            size *= NEXT_LOOK
        return length

    def _ask_length(self, unread: bytes) -> int | None:
        # Call `package_length` and check its answer, so that a wrong one never becomes a hang.
        try:
            length = self.package_length(unread)
        except ProtocolError as error:
            raise self._fail(str(error), error.reply) from error
        if length is None:
            return None
        if not isinstance(length, int) or isinstance(length, bool):
            raise TypeError(
                f"{type(self).__name__}.package_length returned {length!r}, not an int or None"
            )
        if not 0 < length <= self.max_package_size:
            raise self._fail(
                f"{type(self).__name__}.package_length says {length}, which is not between 1 and "
                f"{self.max_package_size}"
            )
        return length
