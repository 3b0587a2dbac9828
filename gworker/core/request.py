"""A request of HTTP: its first line, and the heads that are plainly right, in plain Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote

from gworker.core.fields import TCHAR
from gworker.core.headers import HeadersCore

_T = TypeVar("_T")
_Headers = TypeVar("_Headers", bound=HeadersCore)
_Request = TypeVar("_Request", bound="RequestCore")

ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)")


def split_target(target: str) -> tuple[str, str]:
    """Path and query, still encoded, of a target in origin or in absolute form (RFC 9112 section
    3.2)."""
    if not target.startswith("/") and (absolute := ABSOLUTE.match(target)):
        target = target[absolute.end() :]
    path, _, query = target.partition("?")
    return path or "/", query


class RequestCore:
    """The base of `gworker.http.Request`: the bytes of the head, and what stands in its first
    line."""

    __slots__ = ("_cache", "_head", "_origin", "body", "keep_alive")

    def __init__(
        self, head: bytes, body: bytes = b"", keep_alive: bool = True, origin: Any = None
    ) -> None:
        self._head = head
        self._origin = origin  # see gworker.http.forwarded
        self._cache: dict[str, Any] | None = None
        self.body = body
        self.keep_alive = keep_alive

    def _cached(self, key: str, parse: Callable[[], _T]) -> _T:
        # What `parse()` returned when it was first asked for.
        cache = self._cache
        if cache is None:
            cache = self._cache = {}
        if key not in cache:
            cache[key] = parse()
        value: _T = cache[key]
        return value

    def forget(self) -> None:
        """Drop everything that was parsed; it is parsed anew when asked for."""
        self._cache = None

    def _headers(self, cls: type[_Headers]) -> _Headers:
        return cls.from_head(self._head)

    @property
    def _line(self) -> list[str]:
        return self._cached("line", self._split_line)

    def _split_line(self) -> list[str]:
        return self._head[: self._head.find(b"\r\n")].decode("latin-1").split(" ")

    @property
    def method(self) -> str:
        """Upper-case, as sent."""
        return self._line[0]

    @property
    def target(self) -> str:
        """The request target as sent."""
        return self._line[1]

    @property
    def version(self) -> str:
        """ "1.1" or "1.0"."""
        return self._line[2][5:]

    @property
    def path(self) -> str:
        """The path, percent-decoded as UTF-8; bytes that are not UTF-8 become U+FFFD."""
        return unquote(self.raw_path)

    @property
    def raw_path(self) -> str:
        """The path as sent: still percent-encoded."""
        return split_target(self._line[1])[0]

    @property
    def query_string(self) -> str:
        """What follows the "?", as sent."""
        return split_target(self._line[1])[1]


# ---- heads of requests

MAX_LINE = 8192
MAX_HEADERS = 16384
MAX_FIELDS = 100

_TCHAR = TCHAR.encode()
_METHOD = rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)"
_TARGET = rb"/[!-\"$-~]*+"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"
_BLANKS = rb"[ \t]*+"
# A name or an IPv4 address, and a port; not empty.
_HOST = rb"(?=[^ \t\r])[A-Za-z0-9._~!$&'()*+;=-]{0,249}+(?::[0-9]{0,5}+)?"
_DECISIVE = (
    rb"(?:connection|content-length|content-type|expect|host|proxy-connection|transfer-encoding"
    rb"|upgrade):"
)

# The groups of the pattern.
_LINE, _METHOD_GROUP, _HOST_GROUP, _KEEP, _LENGTH, _MULTIPART = range(1, 7)


def _once(name: bytes, group: int, value: bytes) -> bytes:
    # A field that may be there once.
    return rb"(?i:%b):%b(?(%d)(?!)|(%b))%b" % (name, _BLANKS, group, value, _BLANKS)


# No line fits two of them, so that a head that does not fit costs no more than its length.
_FIELDS = (
    # Most names show by their first letter that they say nothing about the framing.
    rb"(?![CcEeHhPpTtUu])%b++:%b" % (_TCHAR, _VALUE),
    rb"(?=[CcEeHhPpTtUu])(?!(?i:%b))%b++:%b" % (_DECISIVE, _TCHAR, _VALUE),
    _once(b"host", _HOST_GROUP, _HOST),
    _once(b"connection", _KEEP, b"(?i:keep-alive)"),
    _once(b"content-length", _LENGTH, b"[0-9]{1,15}+"),
    rb"(?i:content-type):%b(?:(?!(?i:multipart/))|((?i:multipart/)))%b" % (_BLANKS, _VALUE),
)
_SIMPLE = re.compile(
    rb"(%b %b HTTP/1\.1)\r\n(?:(?:%b)\r\n){1,%d}(?(%d)|(?!))\r\n"
    % (_METHOD, _TARGET, b"|".join(_FIELDS), MAX_FIELDS, _HOST_GROUP)
)


def parse_request(
    cls: type[_Request], buffer: bytes | bytearray, pos: int, origin: Any, max_body: int
) -> tuple[_Request, bytes, bytes, int] | None:
    """The request that begins at `pos` and is whole, if it is plainly right and simple: the
    request, its method, its head, and where what follows it begins.

    Of HTTP/1.1, with one plain Host, a body by Content-Length or none, and nothing else that is
    said about the framing. All others are for `gworker.protocols.http.head`, which also says what
    is wrong with them. cls: of the request. max_body: bytes of the longest body that is to be
    handed out whole.
    """
    if type(buffer) is not bytes or (found := _SIMPLE.match(buffer, pos)) is None:
        return None
    line_end, stop = found.end(_LINE), found.end()
    if line_end - pos > MAX_LINE or stop - line_end - 2 > MAX_HEADERS:
        return None
    head = buffer[pos:stop]
    body = b""
    length = int(found[_LENGTH] or 0)
    if length:
        if length > min(max_body, len(buffer) - stop) or found[_MULTIPART] is not None:
            return None
        body = buffer[stop : stop + length]
    return cls(head, body, True, origin), found[_METHOD_GROUP], head, stop + length
