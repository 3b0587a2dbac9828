"""`Response.file`: a file in pieces, with conditions (RFC 9110 section 13) and one range (section
14).

A request for several ranges is answered with the whole file, as section 14.2 allows: the answer to
it, a multipart/byteranges, is what hardly any client asks for and what overlapping ranges make
larger than the file.
"""

from __future__ import annotations

import io
import mimetypes
import os
import re
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from gworker.http.date import http_date, parse_date
from gworker.http.headers import Headers, HeaderSource
from gworker.http.request import Request
from gworker.http.streaming import Answer, StreamedBody

if TYPE_CHECKING:
    from _typeshed import StrPath

# Bytes that are read at once.
PIECE = 131072

_RANGE = re.compile(
    r"bytes=[ \t]*(?:(\d{1,19})-(\d{0,19})|-(\d{1,19}))[ \t]*", re.IGNORECASE | re.ASCII
)
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')

# Seconds for which a file that has just changed may change again with the same time stamp and size.
# So long its ETag is weak, and neither that nor its date joins parts of it to others (RFC 9110
# sections 8.8.1 and 8.8.2.2).
FRESH = 2

_TEXT = ("text/", "application/javascript", "application/json", "application/xml", "image/svg")


class Descriptor(io.FileIO):
    # An open file that closes itself with its last user.
    def __init__(self, path: StrPath, flags: int = 0) -> None:
        flags |= os.O_NONBLOCK | os.O_NOCTTY
        super().__init__(os.fspath(path), opener=lambda name, own: os.open(name, own | flags))

    def __del__(self) -> None:
        self.close()


class FileBody(StreamedBody):
    """A regular file, or a part of it. See `Response.file`. IsADirectoryError for another kind.

    file: what is open at `path` already.
    """

    __slots__ = ("_file", "_guessed_type", "_is_settled", "_modified", "_size", "_start", "_tag")

    def __init__(self, path: StrPath, file: Descriptor | None = None) -> None:
        self._file = Descriptor(path) if file is None else file
        facts = os.fstat(self._file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            self._file.close()
            raise IsADirectoryError(f"not a regular file: {os.fspath(path)!r}")
        super().__init__(facts.st_size)
        self._start = 0
        self._size = facts.st_size
        self._guessed_type = _guess(path)
        now = time.time()
        self._modified = int(min(facts.st_mtime, now))  # RFC 9110 section 8.8.2.1: not after Date
        self._is_settled = facts.st_mtime <= now - FRESH
        weak = "W/" if abs(now - facts.st_mtime) < FRESH else ""
        self._tag = f'{weak}"{facts.st_mtime_ns:x}-{facts.st_size:x}"'

    def fields(
        self,
        headers: HeaderSource = (),
        content_type: str | None = None,
        download_name: str | None = None,
    ) -> Headers:
        fields = Headers(headers)
        fields["Content-Type"] = content_type or self._guessed_type
        fields.setdefault("ETag", self._tag)
        fields.setdefault("Last-Modified", http_date(self._modified))
        fields["Accept-Ranges"] = "bytes"
        if download_name is not None:
            fields["Content-Disposition"] = _attachment(download_name)
        return fields

    def resolve(self, request: Request, response: Answer) -> None:
        # Do what RFC 9110 section 13.2.2 says: nothing, or answer with a part, 304, 412 or 416.
        if response.status != 200 or request.method not in ("GET", "HEAD"):
            return
        asked, own = request.headers, response.headers
        if not self._meets_preconditions(asked, own):
            self._replace(response, 412)
        elif self._is_unchanged(asked, own):
            self._replace(response, 304)
        elif (
            request.method == "GET"
            and (wanted := _RANGE.fullmatch(asked.get("Range", "")))
            and self._applies(asked.get("If-Range"), own)
        ):
            self._cut_out(response, wanted)

    def _meets_preconditions(self, asked: Headers, own: Headers) -> bool:
        if "If-Match" in asked:
            return _is_among(own, asked["If-Match"], strong=True)
        limit = parse_date(asked.get("If-Unmodified-Since", ""))
        return limit is None or self._modified <= limit

    def _is_unchanged(self, asked: Headers, own: Headers) -> bool:
        if "If-None-Match" in asked:
            return _is_among(own, asked["If-None-Match"], strong=False)
        since = parse_date(asked.get("If-Modified-Since", ""))
        return since is not None and self._modified <= since

    def _applies(self, validator: str | None, own: Headers) -> bool:
        # Section 13.1.5: a range of another version than the client has parts of would spoil it.
        if validator is None:
            return True
        if '"' in validator:
            return not validator.startswith("W/") and _is_among(own, validator, strong=True)
        return validator == own["Last-Modified"] and self._is_settled

    def _cut_out(self, response: Answer, wanted: re.Match[str]) -> None:
        first, last, suffix = wanted.groups()
        if suffix is not None:
            start, end = max(0, self._size - int(suffix)), self._size - 1
            satisfiable = int(suffix) > 0 and self._size > 0
        else:
            start, end = int(first), min(int(last) if last else self._size, self._size - 1)
            if last and int(last) < int(first):
                return  # no range at all: ignored (section 14.1.1)
            satisfiable = start < self._size
        if satisfiable:
            self._start, self.length, response.status = start, end - start + 1, 206
            response.headers["Content-Range"] = f"bytes {start}-{end}/{self._size}"
        else:
            self._replace(response, 416)
            response.headers["Content-Range"] = f"bytes */{self._size}"

    def _replace(self, response: Answer, status: int) -> None:
        self.close()
        response.body, response.status = b"", status
        for name in ("Content-Type", "Content-Disposition"):
            response.headers.pop(name, None)

    def parts(self) -> Iterator[bytes]:
        position, left = self._start, self.length or 0
        try:
            while left and (piece := os.pread(self._file.fileno(), min(PIECE, left), position)):
                yield piece
                position += len(piece)
                left -= len(piece)
        finally:
            self.close()

    def close(self) -> None:
        self._file.close()


def _is_among(own: Headers, field: str, strong: bool) -> bool:
    # Section 8.8.3.2: comparison of entity tags.
    mine = _TAG.fullmatch(own["ETag"])
    if field.strip() == "*":
        return True
    return mine is not None and any(
        tag[2] == mine[2] and not (strong and (tag[1] or mine[1])) for tag in _TAG.finditer(field)
    )


def _guess(path: StrPath) -> str:
    name = os.fsdecode(path)
    kind, encoding = mimetypes.guess_type(name)
    if (
        kind is None or encoding is not None
    ):  # what is compressed is sent as it is, not unpacked by the browser
        return "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith(_TEXT) else kind


def _attachment(name: str) -> str:
    # RFC 6266: a plain form for all, and an exact one.
    name = re.split(r"[\\/]", name)[-1]
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", name)
    exact = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{exact}'
