"""Response bodies that are sent piece by piece, no faster than the client takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Protocol, TypeAlias

from gworker.http.headers import Headers
from gworker.http.request import Request


class StreamedBody:
    """What a `Response` holds in place of bytes. `parts` gives the content, once.

    length: bytes, None if that is not known before. keep_alive: seconds of silence after which
    `filler` is sent; 0: none is.
    """

    __slots__ = ("length",)

    # Whether a client that has finished sending wants no more of it. In general it may be waiting
    # for the rest.
    ends_with_peer: ClassVar[bool] = False

    filler: ClassVar[bytes] = b""
    keep_alive: float = 0

    def __init__(self, length: int | None) -> None:
        self.length = length

    def resolve(self, request: Request, response: Answer) -> None:
        """Make `response`, which holds this, the answer to `request`: its method and conditions
        may decide about status, fields and body."""

    def parts(self) -> Iterator[bytes]:
        """The content. Close the iterator when it is not wanted any more; that closes its
        source."""
        return iter(())

    def close(self) -> None:
        """Close the source: the content is not wanted."""


Body: TypeAlias = bytes | str | bytearray | memoryview | StreamedBody


class Answer(Protocol):
    """What of a `Response` its body may change."""

    status: int
    headers: Headers
    body: Body


class IterBody(StreamedBody):
    # What an iterable of `bytes` or `str` gives. See `Response.stream`.
    __slots__ = ("_source",)

    def __init__(self, source: Iterable[object], length: int | None = None) -> None:
        if isinstance(source, (str, bytes, bytearray, memoryview)):
            raise TypeError(
                f"a stream is an iterable of bytes or str, not {type(source).__name__}: give a "
                "Response"
            )
        if length is not None and length < 0:
            raise ValueError(f"a length is 0 or more, not {length}")
        super().__init__(length)
        self._source = source

    def parts(self) -> Iterator[bytes]:
        source = iter(self._source)
        try:
            for part in source:
                yield self.encode(part)
        finally:
            _close(source)
            _close(self._source)

    def encode(self, part: object) -> bytes:
        # The bytes of one item of the iterable. TypeError for what has none.
        if isinstance(part, (bytes, bytearray, memoryview)):
            return bytes(part)
        if isinstance(part, str):
            return part.encode()
        raise TypeError(f"a stream yields bytes or str, not {type(part).__name__}")

    def close(self) -> None:
        _close(self._source)


def _close(source: object) -> None:
    getattr(source, "close", lambda: None)()
