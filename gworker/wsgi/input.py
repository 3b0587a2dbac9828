"""The body of a request as `wsgi.input` (PEP 3333, "Input and Error Streams")."""

from __future__ import annotations

import io
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final, cast

from gworker.http.body import StreamedRequest
from gworker.http.errors import BadRequest
from gworker.http.request import Request

PIECE: Final = 65536

MAX_SPOOLED: Final = 1 << 30
"""Bytes of the longest chunked body that is spooled; a longer one is a 413."""


class EmptyInput(io.BytesIO):
    """The body of all requests that have none."""

    def close(self) -> None:
        """Nothing: others read it, too."""


EMPTY: Final = EmptyInput()


def open_input(environ: dict[str, Any], request: Request, streams_chunks: bool) -> IO[bytes]:
    """The body of `request`, whose chunks are decoded.

    Django reads no more than CONTENT_LENGTH bytes, and Bottle decodes what HTTP_TRANSFER_ENCODING
    says is chunked: so a chunked body has a CONTENT_LENGTH here and not that field. A long one is
    written to a temporary file first, unless `streams_chunks`. Raises as `request.stream` does.
    """
    is_chunked = "HTTP_TRANSFER_ENCODING" in environ
    if isinstance(request, StreamedRequest):
        body = cast("IO[bytes]", request.stream)  # typeshed has io and typing.IO apart
        if is_chunked and not streams_chunks:
            body, size = _spool(body, request.upload_dir)
            _set_length(environ, size)
        return body
    content = request.body
    if is_chunked:
        _set_length(environ, len(content))
    return io.BytesIO(content) if content else EMPTY


def _set_length(environ: dict[str, Any], size: int) -> None:
    del environ["HTTP_TRANSFER_ENCODING"]
    environ["CONTENT_LENGTH"] = str(size)


def _spool(body: IO[bytes], directory: str | None) -> tuple[IO[bytes], int]:
    file: Any = SpooledTemporaryFile(PIECE, dir=directory)  # noqa: SIM115 - it is wsgi.input
    size = 0
    while piece := body.read(PIECE):
        size += len(piece)
        if size > MAX_SPOOLED:
            file.close()
            raise BadRequest(f"chunked body longer than {MAX_SPOOLED} bytes", 413)
        file.write(piece)
    file.seek(0)
    return file, size
