"""A directory of files over HTTP.

A path is judged as its encoded segments, before anything is looked up: what is ".", "..", empty,
hidden, or holds an encoded slash, a backslash or a control is refused, so that no two readings of
it exist. What symbolic links lead out of the directory is refused after that (realpath(3)).
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from gworker.http.files import Descriptor, FileBody
from gworker.http.request import Request
from gworker.http.response import Response

_BAD = re.compile(rb"[\x00-\x1f\x7f/\\]")
_PLAIN = "text/plain; charset=utf-8"
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM)


class Static:
    """Serves the files below `directory`: `static(request)` returns a Response, `static(connection,
    request)` sends it.

        files = Worker("http://127.0.0.1:8000", on_message=Static("public"))

    directory: it is found when this is made, NotADirectoryError if it is none. index: the file that
    stands for a directory; "" if none does. prefix: what paths begin with here. hidden: whether
    names that begin with a dot are served. headers: fields for every file, such as Cache-Control.

    404 for what is not there, cannot be read, is hidden or leads out of the directory; 400 for a
    path that no browser sends; 405 for methods other than GET and HEAD; 301 to the same path with a
    slash for a directory.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        index: str = "index.html",
        prefix: str = "/",
        hidden: bool = False,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.directory = os.path.realpath(directory)
        if not os.path.isdir(self.directory):
            raise NotADirectoryError(f"not a directory: {os.fspath(directory)!r}")
        if not prefix.startswith("/"):
            raise ValueError(f"prefix={prefix!r} does not begin with a slash")
        self.index = index
        self.prefix = prefix if prefix.endswith("/") else prefix + "/"
        self.hidden = hidden
        self.headers = headers or {}

    def __call__(self, *arguments: Any) -> Response | None:
        """With a request, return its Response; with a connection and a request, send it."""
        if len(arguments) == 1:
            return self.respond(arguments[0])
        connection, request = arguments
        connection.send(self.respond(request))
        return None

    def respond(self, request: Request) -> Response:
        """The answer to `request`."""
        if request.method not in ("GET", "HEAD"):
            return Response("GET or HEAD\n", 405, {"Allow": "GET, HEAD"}, content_type=_PLAIN)
        path = request.raw_path
        if path + "/" == self.prefix:
            return self._with_slash(request)
        if not path.startswith(self.prefix):
            return _not_found()
        segments = [unquote_to_bytes(segment) for segment in path[len(self.prefix) :].split("/")]
        wants_directory = segments[-1] == b""
        if wants_directory:
            segments.pop()
        for segment in segments:
            if not segment or segment in (b".", b"..") or _BAD.search(segment):
                return Response("400 Bad Request: not a path\n", 400, content_type=_PLAIN)
            if segment.startswith(b".") and not self.hidden:
                return _not_found()
        try:
            return self._open(
                os.path.join(self.directory, *map(os.fsdecode, segments)), wants_directory, request
            )
        except OSError as error:
            if error.errno in _MISSING or isinstance(error, IsADirectoryError):
                return _not_found()
            raise

    def _open(self, path: str, wants_directory: bool, request: Request) -> Response:
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
        if is_directory and not wants_directory and self._is_inside(path):
            return self._with_slash(request)
        if is_directory != wants_directory or (is_directory and not self.index):
            return _not_found()
        if is_directory:
            path = os.path.join(path, self.index)
        real = os.path.realpath(path)
        # A socket cannot be opened, and opening a device may do something.
        if not self._is_inside(real) or not stat.S_ISREG(os.stat(real).st_mode):
            return _not_found()
        # What was looked at is what is opened: a link that has come since is not followed.
        body = FileBody(path, Descriptor(real, os.O_NOFOLLOW))
        return Response(body, 200, body.fields(self.headers))

    def _is_inside(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real == self.directory or real.startswith(self.directory.rstrip("/") + "/")

    def _with_slash(self, request: Request) -> Response:
        # Relative links in its index need it. The segments before were judged, so no host can be
        # read into it.
        query = "?" + request.query_string if request.query_string else ""
        target = quote("/" + request.raw_path.lstrip("/"), safe="/%:@!$&'()*+,;=~-._") + "/" + query
        return Response(b"", 301, {"Location": target})


def _not_found() -> Response:
    return Response("404 Not Found\n", 404, content_type=_PLAIN)
