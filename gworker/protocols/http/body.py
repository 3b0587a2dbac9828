"""Bodies of HTTP requests: one reader per framing, alive while its body arrives.

    read(buffer, pos) -> int    take what belongs to the body from `buffer[pos:]`, and return the
                                position behind it
    is_complete                 nothing is missing: what follows is the next request
    body                        the bytes so far

A chunked body is read `LINES` at a time, so there may be more of it in the buffer when `read`
returns.

A reader keeps no more than its limit, raises ProtocolError with the reply, and stops exactly at the
last byte of its message: what follows is the next request.
"""

from __future__ import annotations

import re

from gworker.core.fields import TCHAR
from gworker.errors import ProtocolError
from gworker.http.errors import RefusedRequest

MAX_CHUNK_LINE = 256
# Bytes of chunk extensions and trailer fields that one request may carry besides its content.
MAX_OVERHEAD = 16384

LINES = 64

_TCHAR = TCHAR.encode()
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_EXTENSION = rb";" + _TCHAR + rb"+(?:=(?:" + _TCHAR + rb"+|" + _QUOTED + rb"))?"
# RFC 9112 section 7.1, without the "bad whitespace" of 7.1.1 that only attackers still send.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)")

_TRAILER = re.compile(_TCHAR + rb"+:[\t\x20-\x7e\x80-\xff]*")


class _Reader:
    __slots__ = ("body", "left")

    def __init__(self, left: int) -> None:
        self.body = bytearray()
        self.left = left  # bytes that the body, or the chunk that is read, lacks

    def take(self) -> bytes:
        data, self.body = bytes(self.body), bytearray()
        return data

    def _read_content(self, buffer: bytes | bytearray, pos: int) -> int:
        with memoryview(buffer)[pos : pos + self.left] as part:
            self.body += part
            self.left -= len(part)
            return pos + len(part)


class LengthReader(_Reader):
    __slots__ = ()

    @property
    def is_complete(self) -> bool:
        return not self.left

    read = _Reader._read_content


class ChunkedReader(_Reader):
    # A chunked body; extensions and trailers are checked and dropped (RFC 9112 sections 7.1.1,
    # 7.1.2).
    __slots__ = ("_limit", "_line", "_overhead", "_state")

    def __init__(self, limit: int) -> None:
        super().__init__(0)
        self._limit = limit
        self._state = _SIZE
        self._line = b""  # the beginning of a line that goes on in the next read
        self._overhead = 0

    @property
    def is_complete(self) -> bool:
        return self._state == _COMPLETE

    def read(self, buffer: bytes | bytearray, pos: int) -> int:
        end = len(buffer)
        lines = 0
        while pos < end and lines < LINES and self._state != _COMPLETE:
            if self._state == _CONTENT:
                pos = self._read_content(buffer, pos)
                if not self.left:
                    self._state = _CONTENT_END
                continue
            line, pos = self._read_line(buffer, pos)
            if line is not None:
                self._finish_line(line)
            lines += 1
        return pos

    def _read_line(self, buffer: bytes | bytearray, pos: int) -> tuple[bytes | None, int]:
        # Return the next line without its CRLF, None if it is incomplete; refuse it once it is too
        # long.
        limits = {_SIZE: MAX_CHUNK_LINE, _CONTENT_END: 0}
        limit = limits.get(self._state, MAX_OVERHEAD - self._overhead)
        stop = buffer.find(b"\n", pos, pos + limit + 2)
        part = self._line + bytes(buffer[pos : stop + 1 if stop >= 0 else pos + limit + 2])
        line = part[:-2] if stop >= 0 else part.removesuffix(b"\r")
        if len(line) > limit or b"\r" in line or (stop >= 0 and not part.endswith(b"\r\n")):
            raise self._bad_line(part)
        if stop < 0:
            self._line = part
            return None, len(buffer)
        self._line = b""
        return line, stop + 1

    def _bad_line(self, line: bytes) -> ProtocolError:
        if self._state == _TRAILERS and b"\n" not in line and b"\r" not in line[:-1]:
            return RefusedRequest(f"trailer fields longer than {MAX_OVERHEAD} bytes", 431)
        return RefusedRequest(f"malformed line in a chunked body: {line[:32]!r}")

    def _finish_line(self, line: bytes) -> None:
        if self._state == _SIZE:
            self._begin_chunk(line)
        elif self._state == _CONTENT_END:
            self._state = _SIZE
        elif not line:
            self._state = _COMPLETE
        elif not _TRAILER.fullmatch(line):
            raise RefusedRequest("malformed trailer field")
        else:
            self._count(len(line) + 2, 431)

    def _begin_chunk(self, line: bytes) -> None:
        chunk = _CHUNK_LINE.fullmatch(line)
        if not chunk:
            raise RefusedRequest(f"malformed chunk size {line[:32]!r}")
        size = int(chunk[1], 16)
        if len(self.body) + size > self._limit:
            raise RefusedRequest(f"body longer than {self._limit} bytes", 413)
        # The digits count too: a stream of one-byte chunks written "0000000000000001" is no
        # content.
        self._count(max(len(line) - 8, 0), 400)
        self.left = size
        self._state = _CONTENT if size else _TRAILERS

    def _count(self, overhead: int, status: int) -> None:
        self._overhead += overhead
        if self._overhead > MAX_OVERHEAD:
            raise RefusedRequest(
                f"more than {MAX_OVERHEAD} bytes of chunk extensions and trailers", status
            )


_SIZE, _CONTENT, _CONTENT_END, _TRAILERS, _COMPLETE = range(5)
