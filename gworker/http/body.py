"""A request whose body is still arriving, and the body as a file (`request.stream`)."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from gworker.http.errors import BadRequest, ClientGone
from gworker.http.forwarded import RequestOrigin, resolved
from gworker.http.request import Request

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class BodyStream(io.RawIOBase):
    """Reads from `more`, which waits for the next piece of a body; None is the end."""

    def __init__(self, more: Callable[[], bytes | None]) -> None:
        self._more = more
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        # Wait until there is something. Raises TimeoutError, ConnectionError, or ValueError for a
        # malformed body.
        if not self._rest:
            piece = self._more()
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        target = memoryview(buffer).cast("B")
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class StreamedRequest(Request):
    """A request whose body is still arriving. `attach` says where it comes from.

    `body` waits for what is left of it, and is bounded by `max_package_size`: beyond it is a
    BadRequest (413).
    """

    __slots__ = ("_limit", "_stream", "_whole")

    def __init__(
        self, head: bytes, keep_alive: bool, limit: int, origin: RequestOrigin = None
    ) -> None:
        self._head = head
        self._origin = origin
        self._cache = None
        self.keep_alive = keep_alive
        self._limit = limit
        self._stream: io.BufferedReader | None = None
        self._whole: bytes | None = None

    def __reduce__(self) -> tuple[object, ...]:
        origin = resolved(self._origin)
        return Request, (self._head, self._whole or b"", self.keep_alive, origin)

    def attach(self, more: Callable[[], bytes | None]) -> None:
        self._stream = io.BufferedReader(BodyStream(more), 65536)

    @property
    def stream(self) -> io.BufferedIOBase:
        if self._stream is None:
            raise ClientGone("its connection does not know this request any more")
        return (
            self._stream
            if self._whole is None
            else self._cached("stream", lambda: io.BytesIO(self._whole or b""))
        )

    # A plain request has it in a slot, which is quicker.
    @property
    def body(self) -> bytes:
        if self._whole is None:
            return self._body_up_to(self._limit, "body longer than {} bytes")
        return self._whole

    @body.setter
    def body(self, body: bytes) -> None:
        self._whole = body

    def _body_up_to(self, limit: int, text: str) -> bytes:
        if self._whole is None:
            if limit > self._limit:
                return self._body_up_to(self._limit, "body longer than {} bytes")
            if int(self.headers.get("Content-Length", "0")) > limit:
                raise BadRequest(text.format(limit), 413)
            whole = self.stream.read(limit + 1)
            if len(whole) > limit:
                raise BadRequest(text.format(limit), 413)
            self.body = whole
        return super()._body_up_to(limit, text)
