"""Forms: urlencoded (WHATWG URL 5.1) and multipart/form-data (RFC 7578), which brings files.

A multipart body is parsed while it is read, by the library `multipart`. Fields are kept in memory,
up to MAX_FIELD_BYTES all together; so is a file, up to SPOOL bytes and all together up to
MAX_HELD_BYTES, and is in a temporary file without a name beyond.
"""

from __future__ import annotations

import io
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from urllib.parse import unquote

import multipart

from gworker.http.charset import decode
from gworker.http.errors import BadRequest
from gworker.http.headers import Headers
from gworker.http.parameters import Parameters
from gworker.http.slices import Slices

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

# Bytes of one file that stay in memory.
SPOOL = 65536

# Bytes of all files of one form that stay in memory.
MAX_HELD_BYTES = 1024 * 1024

# Bytes of a streamed form, unless the caller says otherwise.
MAX_FORM_SIZE = 100 * 1024 * 1024

# Bytes of all fields that are no files, together.
MAX_FIELD_BYTES = 1024 * 1024

PIECE = 65536

# RFC 2046 section 5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")

# A parameter of Content-Disposition. The library knows no names with an asterisk.
_PARAMETER = re.compile(r';[ \t]*+([^=;"\s]++)[ \t]*+=[ \t]*+("(?:[^"\\]|\\.)*+"|[^;"]*+)')

# ext-value of RFC 8187 section 3.2.1; the second charset is of RFC 5987, which it replaces.
_EXTENDED = re.compile(
    r"(utf-8|iso-8859-1)'[A-Za-z0-9-]*'((?:%[0-9a-f]{2}|[!#$&+.^_`|~0-9a-z-])*)",
    re.IGNORECASE | re.ASCII,
)

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class UploadedFile:
    """A file of a form. `file` is at its beginning, and closed when the request is answered.

    filename: as the client said it, without directories and controls; "" if it said none.
    content_type: likewise, not to be trusted. size: bytes.
    """

    __slots__ = ("content_type", "file", "filename", "size")

    def __init__(self, filename: str, content_type: str, spool_dir: str | None = None) -> None:
        self.filename = filename
        self.content_type = content_type
        self.size = 0
        # Its request closes it.
        self.file = SpooledTemporaryFile(max_size=SPOOL, dir=spool_dir)  # noqa: SIM115

    def read(self, size: int = -1) -> bytes:
        """Read from `file`."""
        return self.file.read(size)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Copy it to `path`. FileExistsError if there is one already, unless `overwrite`."""
        self.file.seek(0)
        slices = Slices()
        with open(path, "wb" if overwrite else "xb") as target:
            while data := self.file.read(PIECE):
                target.write(data)
                slices.count(len(data))

    def __del__(self) -> None:
        self.file.close()

    def __repr__(self) -> str:
        return f"<UploadedFile {self.filename!r} {self.size} bytes>"


@dataclass(slots=True)
class Form:
    """The content of a form: `fields`, and `files` as (name, file) pairs in order."""

    fields: Parameters
    files: list[tuple[str, UploadedFile]]

    def close(self) -> None:
        """Close the files; temporary ones are gone then."""
        for _, file in self.files:
            file.file.close()


def parse_urlencoded(text: str) -> Form:
    return Form(Parameters.parse(text), [])


class MultipartReader:
    """Reads one multipart body from `stream`. BadRequest for what is none, and beyond the limits.

    spool_dir: where files are spooled; None: the temporary directory.
    """

    def __init__(
        self,
        headers: Headers,
        stream: io.BufferedIOBase,
        spool_dir: str | None,
        max_size: int | None,
        max_parts: int,
        max_files: int,
    ) -> None:
        self._headers = headers
        self._stream = stream
        self._spool_dir = spool_dir
        self._max_size = MAX_FORM_SIZE if max_size is None else max_size
        self._max_parts = max_parts
        self._max_files = max_files
        self._fields: list[tuple[str, str]] = []
        self._files: list[tuple[str, UploadedFile]] = []
        self._field_bytes = 0
        self.held = 0  # bytes of files that are in memory

    def read(self) -> Form:
        # The form. Its files are closed if it cannot be read to the end.
        try:
            self._read()
        except BaseException as error:
            Form(Parameters(), self._files).close()
            if isinstance(error, multipart.ParserLimitReached):
                raise BadRequest(f"multipart form: {error}", 413) from None
            if isinstance(error, multipart.MultipartError):
                text = f"malformed form of content type {MULTIPART!r}: {error}"
                raise BadRequest(text) from None
            raise
        for _, file in self._files:
            file.file.seek(0)
        return Form(Parameters(self._fields), self._files)

    def _read(self) -> None:
        size, slices = 0, Slices()
        sink: _Field | _FileSink | None = None
        parser: multipart.PushMultipartParser | None = None
        length = self._headers.get("Content-Length", "")
        self._check_size(int(length) if length.isdigit() else 0)
        while data := self._stream.read1(PIECE):
            size += len(data)
            self._check_size(size)
            slices.count(len(data))
            parser = parser or _parser(self._headers, self._max_parts)
            if parser.closed:
                continue  # the epilogue, which means nothing (RFC 2046 section 5.1.1)
            for event in parser.parse(data):
                if isinstance(event, multipart.MultipartSegment):
                    sink = self._begin(event)
                elif event is not None and sink is not None:
                    sink.add(event)
                elif isinstance(sink, _Field):
                    self._fields.append(sink.pair())
        if parser is not None:  # without a byte of a body the form is empty
            parser.close()

    def _check_size(self, size: int) -> None:
        if size > self._max_size:
            raise BadRequest(f"form longer than {self._max_size} bytes", 413)

    def _begin(self, part: multipart.MultipartSegment) -> _Field | _FileSink:
        filename = _filename(part)
        if filename is None:
            self.count(len(part.name))
            return _Field(self, part, bytearray())
        if len(self._files) >= self._max_files:  # each may take a descriptor
            raise BadRequest(f"form of more than {self._max_files} files", 413)
        # Browsers once sent whole paths; no part of one is any of our business.
        name = re.split(r"[\\/]", _CONTROLS.sub("", filename))[-1]
        name = "" if name in (".", "..") else name
        content_type = part.content_type or "application/octet-stream"
        file = UploadedFile(name, content_type, self._spool_dir)
        self._files.append((part.name, file))
        return _FileSink(self, file)

    def count(self, size: int) -> None:
        self._field_bytes += size
        if self._field_bytes > MAX_FIELD_BYTES:
            raise BadRequest(f"fields longer than {MAX_FIELD_BYTES} bytes", 413)


@dataclass(slots=True)
class _Field:
    reader: MultipartReader
    part: multipart.MultipartSegment
    data: bytearray

    def add(self, data: bytes) -> None:
        self.reader.count(len(data))
        self.data += data

    def pair(self) -> tuple[str, str]:
        name, charset = self.part.name, self.part.charset or "utf-8"
        try:
            return name, decode(bytes(self.data), charset)
        except ValueError:
            raise BadRequest(f"field {name!r} is not {charset}") from None


@dataclass(slots=True)
class _FileSink:
    reader: MultipartReader
    file: UploadedFile
    is_held: bool = True

    def add(self, data: bytes) -> None:
        file, reader = self.file, self.reader
        file.file.write(data)
        file.size += len(data)
        if self.is_held:
            reader.held += len(data)
            if file.size > SPOOL or reader.held > MAX_HELD_BYTES:
                file.file.rollover()  # nothing, if it is above SPOOL
                self.is_held = False
                reader.held -= file.size


def _filename(part: multipart.MultipartSegment) -> str | None:
    # The name of a part that is a file; None for a field. Of two names `filename*` counts (RFC 6266
    # section 4.3), unless it says nothing (RFC 8187 section 3.2.1). BadRequest if there is no other
    # then.
    plain: str | None = part.filename
    parameters = {
        each[1].lower(): each[2].strip()
        for each in _PARAMETER.finditer(part.header("Content-Disposition"))
    }
    extended = parameters.get("filename*")
    if extended is None:
        return plain
    if found := _EXTENDED.fullmatch(extended.strip('"')):
        with suppress(UnicodeDecodeError):
            return unquote(found[2], found[1], "strict")
    if plain is None:
        raise BadRequest(f"malformed filename* of the field {part.name!r}")
    return plain


def _parser(headers: Headers, max_parts: int) -> multipart.PushMultipartParser:
    _, options = multipart.parse_options_header(headers.get("Content-Type", ""))
    boundary = options.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise BadRequest(f"form of content type {MULTIPART!r} without a valid boundary")
    return multipart.PushMultipartParser(
        boundary,
        max_header_size=4096,
        max_header_count=16,
        max_segment_count=max_parts,
        strict=True,
    )
