"""Forms: urlencoded (WHATWG URL 5.1) and multipart/form-data (RFC 7578), which brings files.

A multipart body is parsed while it is read, by the library `multipart`. Fields are kept in memory,
up to MAX_FIELD_BYTES all together; so is a file, up to SPOOL bytes and all together up to
MAX_HELD_BYTES, and is in a temporary file without a name beyond.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, Any, ClassVar, Protocol
from urllib.parse import unquote

import multipart

from gworker.http.charset import decode
from gworker.http.errors import BadRequest
from gworker.http.headers import Headers
from gworker.http.parameters import Parameters
from gworker.http.slices import Slices

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

SPOOL = 65536
"""Bytes of one file that stay in memory."""

MAX_HELD_BYTES = 1024 * 1024
"""Bytes of all files of one form that stay in memory."""

MAX_FORM_SIZE = 100 * 1024 * 1024
"""Bytes of a streamed form, if nobody says otherwise."""

MAX_FIELD_BYTES = 1024 * 1024
"""Of the fields that are no files."""

MAX_PART_HEADERS = 16
MAX_PART_LINE = 4096

PIECE = 65536

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
"""RFC 2046 section 5.1.1."""

_PARAMETER = re.compile(r';[ \t]*+([^=;"\s]++)[ \t]*+=[ \t]*+("(?:[^"\\]|\\.)*+"|[^;"]*+)')
"""Of Content-Disposition. The library knows no names with an asterisk."""

_EXTENDED = re.compile(
    r"(utf-8|iso-8859-1)'[A-Za-z0-9-]*'((?:%[0-9a-f]{2}|[!#$&+.^_`|~0-9a-z-])*)",
    re.IGNORECASE | re.ASCII,
)
"""ext-value of RFC 8187 section 3.2.1; the second charset is of RFC 5987, which it replaces."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class FormSource(Protocol):
    """What of a request holds its form."""

    upload_dir: ClassVar[str | None]

    @property
    def content_type(self) -> str: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def body(self) -> bytes: ...
    @property
    def text(self) -> str: ...
    @property
    def stream(self) -> io.BufferedIOBase: ...


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
        self.file: IO[bytes] = SpooledTemporaryFile(max_size=SPOOL, dir=spool_dir)  # noqa: SIM115 - its request closes it

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


class Form:
    """What a form held: `fields`, and `files` as (name, file) pairs in order."""

    __slots__ = ("fields", "files")

    def __init__(self, fields: Parameters, files: list[tuple[str, UploadedFile]]) -> None:
        self.fields = fields
        self.files = files

    def close(self) -> None:
        """Close the files; temporary ones are gone then."""
        for _, file in self.files:
            file.file.close()


def read_form(request: FormSource, max_size: int | None, max_parts: int, max_files: int) -> Form:
    """Read the form of `request`. BadRequest for what is none: see `Request.parse_form`."""
    kind = request.content_type
    if kind == MULTIPART:
        return _Reader(
            request, MAX_FORM_SIZE if max_size is None else max_size, max_parts, max_files
        ).read()
    if not request.body:
        return Form(Parameters(), [])
    if kind != URLENCODED:
        text = (
            f"cannot read a form from content type {kind!r}, only from {URLENCODED} and {MULTIPART}"
        )
        raise BadRequest(text, 415)
    try:
        return Form(Parameters.parse(request.text), [])
    except ValueError as error:
        raise BadRequest(f"malformed form: {error}") from None


class _Reader:
    """Reads one multipart body."""

    def __init__(self, request: FormSource, max_size: int, max_parts: int, max_files: int) -> None:
        self._request = request
        self._max_size = max_size
        self._max_parts = max_parts
        self._max_files = max_files
        self._fields: list[tuple[str, str]] = []
        self._files: list[tuple[str, UploadedFile]] = []
        self._field_bytes = 0
        self.held = 0
        """Bytes of files that are in memory."""

    def read(self) -> Form:
        form = Form(Parameters(), self._files)
        try:
            with _refusing():
                self._read()
        except BaseException:
            form.close()
            raise
        form.fields = Parameters(self._fields)
        for _, file in self._files:
            file.file.seek(0)
        return form

    def _read(self) -> None:
        read, size, slices = self._request.stream.read1, 0, Slices()
        sink: Any = None
        parser: Any = None
        length = self._request.headers.get("Content-Length", "")
        if length.isdigit() and int(length) > self._max_size:
            raise BadRequest(f"form longer than {self._max_size} bytes", 413)
        while data := read(PIECE):
            size += len(data)
            if size > self._max_size:
                raise BadRequest(f"form longer than {self._max_size} bytes", 413)
            slices.count(len(data))
            parser = parser or _parser(self._request, self._max_parts)
            if parser.closed:
                continue  # the epilogue, which means nothing (RFC 2046 section 5.1.1)
            for event in parser.parse(data):
                if event is None:
                    sink.end()
                elif isinstance(event, multipart.MultipartSegment):
                    sink = self._begin(event)
                else:
                    sink.add(event)
        if parser is not None:  # without a byte of a body the form is empty
            parser.close()

    def _begin(self, part: Any) -> Any:
        filename = _filename(part)
        if filename is None:
            return _Field(self, part)
        if len(self._files) >= self._max_files:  # each may take a descriptor
            raise BadRequest(f"form of more than {self._max_files} files", 413)
        # Browsers once sent whole paths; no part of one is any of our business.
        name = re.split(r"[\\/]", _CONTROLS.sub("", filename))[-1]
        file = UploadedFile(
            "" if name in (".", "..") else name,
            part.content_type or "application/octet-stream",
            self._request.upload_dir,
        )
        self._files.append((part.name, file))
        return _FileSink(self, file)

    def count(self, size: int) -> None:
        """So many bytes of fields more."""
        self._field_bytes += size
        if self._field_bytes > MAX_FIELD_BYTES:
            raise BadRequest(f"fields longer than {MAX_FIELD_BYTES} bytes", 413)

    def keep(self, name: str, value: str) -> None:
        """A field is complete."""
        self._fields.append((name, value))


class _Field:
    def __init__(self, reader: _Reader, part: Any) -> None:
        self._reader = reader
        self._part = part
        self._data = bytearray()
        reader.count(len(part.name))

    def add(self, data: bytes) -> None:
        self._reader.count(len(data))
        self._data += data

    def end(self) -> None:
        try:
            self._reader.keep(
                self._part.name, decode(bytes(self._data), self._part.charset or "utf-8")
            )
        except ValueError:
            raise BadRequest(
                f"field {self._part.name!r} is not {self._part.charset or 'utf-8'}"
            ) from None


class _FileSink:
    def __init__(self, reader: _Reader, file: UploadedFile) -> None:
        self._reader = reader
        self._file = file
        self._is_held = True

    def add(self, data: bytes) -> None:
        file, reader = self._file, self._reader
        file.file.write(data)
        file.size += len(data)
        if self._is_held:
            reader.held += len(data)
            if file.size > SPOOL or reader.held > MAX_HELD_BYTES:
                spooled: Any = file.file
                spooled.rollover()  # nothing, if it is above SPOOL
                self._is_held = False
                reader.held -= file.size

    def end(self) -> None:
        pass


def _filename(part: Any) -> str | None:
    """The name of a part that is a file; None for a field. Of two names `filename*` counts (RFC
    6266 section 4.3)."""
    parameters = {
        each[1].lower(): each[2].strip()
        for each in _PARAMETER.finditer(part.header("Content-Disposition"))
    }
    extended = parameters.get("filename*")
    if extended is None:
        name: str | None = part.filename
        return name
    found = _EXTENDED.fullmatch(extended.strip('"'))
    try:
        return unquote(found[2], found[1], "strict") if found else _malformed_name(part)
    except UnicodeDecodeError:
        return _malformed_name(part)


def _malformed_name(part: Any) -> str:
    """The other name of a part whose `filename*` says nothing (RFC 8187 section 3.2.1). BadRequest
    if it has none."""
    if part.filename is None:
        raise BadRequest(f"malformed filename* of the field {part.name!r}")
    return str(part.filename)


def _parser(request: FormSource, max_parts: int) -> Any:
    _, options = multipart.parse_options_header(request.headers.get("Content-Type", ""))
    boundary = options.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise BadRequest(f"form of content type {MULTIPART!r} without a valid boundary")
    return multipart.PushMultipartParser(
        boundary,
        max_header_size=MAX_PART_LINE,
        max_header_count=MAX_PART_HEADERS,
        max_segment_count=max_parts,
        strict=True,
    )


@contextmanager
def _refusing() -> Iterator[None]:
    """What the library complains of is the client's fault."""
    try:
        yield
    except multipart.ParserLimitReached as error:
        raise BadRequest(f"multipart form: {error}", 413) from None
    except multipart.MultipartError as error:
        raise BadRequest(f"malformed form of content type {MULTIPART!r}: {error}") from None
