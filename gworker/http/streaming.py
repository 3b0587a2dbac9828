"""Responses that are sent piece by piece. Whoever drives the protocol iterates over `parts`
(`gworker.connection.http_exchange`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from gworker.http.headers import HeaderSource
from gworker.http.request import Request
from gworker.http.response import Response


class StreamedResponse(Response):
    """A response whose content comes from an iterable. See `Response.stream`.

    length: bytes, if that is known before. keep_alive: seconds of silence after which `filler` is
    sent.
    """

    __slots__ = ("_source", "length")

    ends_with_peer: ClassVar[bool] = False
    """Whether a client that has finished sending wants no more of it. In general it may be waiting
    for the rest."""

    keep_alive: float = 0
    filler: ClassVar[bytes] = b""

    def __init__(
        self,
        source: Iterable[Any],
        status: int = 200,
        headers: HeaderSource | None = None,
        content_type: str | None = None,
        length: int | None = None,
    ) -> None:
        super().__init__(b"", status, headers, content_type)
        if isinstance(source, (str, bytes, bytearray, memoryview)):
            raise TypeError(
                f"a stream is an iterable of bytes or str, not {type(source).__name__}: give a "
                "Response"
            )
        if length is not None and length < 0:
            raise ValueError(f"a length is 0 or more, not {length}")
        self._source = source
        self.length = length

    def resolve(self, request: Request) -> Response:
        """Return the response to `request`, whose method and conditions may decide about it."""
        return self

    def parts(self) -> Iterator[bytes]:
        """The content. Close the iterator when it is not wanted any more; that closes its
        source."""
        source = iter(self._source)
        try:
            for part in source:
                if isinstance(part, bytes):
                    yield part
                elif isinstance(part, str):
                    yield part.encode()
                elif isinstance(part, (bytearray, memoryview)):
                    yield bytes(part)
                else:
                    raise TypeError(f"a stream yields bytes or str, not {type(part).__name__}")
        finally:
            _close(source)
            _close(self._source)

    def close(self) -> None:
        """It is not wanted."""
        _close(self._source)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


def _close(source: Any) -> None:
    close = getattr(source, "close", None)
    if close is not None:
        close()
