"""The buffer of a protocol that begins with the head of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gworker.http.errors import RefusedRequest
from gworker.http.forwarded import RequestOrigin
from gworker.protocols.buffered import BufferedProtocol
from gworker.protocols.http.head import check_partial

# Bytes of a head that did not become whole which are kept.
MAX_PARTIAL = 2048


class HeadProtocol(BufferedProtocol):
    """Cuts off the head. An incomplete one is judged while it arrives, and never exceeds its
    limits."""

    __slots__ = ("_options", "_scanned", "origin", "raw_head")

    over_datagrams = False

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self.origin: RequestOrigin = None  # where requests come from: set by the driver
        self._options: Mapping[str, Any] = {}
        self._scanned = 0  # bytes of an incomplete head that were judged
        # The head of the request that is to be answered, or as much of one as there was when it was
        # refused.
        self.raw_head = b""

    def configure(self, options: Mapping[str, Any]) -> None:
        self._options = options

    def __getstate__(self) -> Any:
        # What pickle(3) copies: not the options, which each process sets anew.
        state: Any = super().__getstate__()
        return state[0], {**state[1], "_options": {}}

    def _keep_partial_head(self) -> None:
        # The access log shows what was refused.
        if not self.raw_head:
            self.raw_head = bytes(self._buffer[self._pos : self._pos + MAX_PARTIAL])

    def _next_head(self) -> bytes | None:
        # The next head with its empty line, None if it is incomplete. Raises RefusedRequest as soon
        # as it cannot become a good one.
        buffer, pos = self._buffer, self._pos
        end = buffer.find(b"\r\n\r\n", pos + self._scanned - 3 if self._scanned > 3 else pos)
        if end < 0:
            self._judge_partial()
            return None
        self._scanned = 0
        if end + 4 == len(buffer) and not pos:
            self._buffer = b""
            return bytes(buffer)
        raw = bytes(buffer[pos : end + 4])
        self._consume(end + 4)
        return raw

    def _judge_partial(self) -> None:
        if self._ended and self._buffer:
            raise RefusedRequest("the request ended within its head")
        self._wait()
        if self._buffer:
            check_partial(self._buffer, self._scanned)
        self._scanned = len(self._buffer)
