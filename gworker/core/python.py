"""The core in plain Python: the names of the compiled one, their types and their meaning.

A function that returns None has not done it: it is left to the caller. Both cores take the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, TypeVar, overload
from urllib.parse import unquote

from gworker.core.fields import TCHAR, check_field
from gworker.core.masking import apply_mask
from gworker.core.poller import Poller
from gworker.core.receive_buffer import ReceiveBuffer
from gworker.core.states import (
    ConnectionState,
    JobState,
    ServerState,
    TransportState,
    accelerate,
    accelerated_send,
    register_framing,
    send_to_all,
)
from gworker.core.status import status_line

__all__ = [
    "ABSOLUTE",
    "IMPLEMENTATION",
    "ConnectionState",
    "HeadersCore",
    "JobState",
    "Poller",
    "ReceiveBuffer",
    "RequestCore",
    "ServerState",
    "TransportState",
    "accelerate",
    "accelerated_send",
    "apply_mask",
    "encode_simple",
    "parse_cookies",
    "parse_pairs",
    "parse_request",
    "register_framing",
    "send_to_all",
    "split_target",
]

_T = TypeVar("_T")
_Headers = TypeVar("_Headers", bound="HeadersCore")
_Request = TypeVar("_Request", bound="RequestCore")

IMPLEMENTATION: Final[Literal["compiled", "Python"]] = "Python"

ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)")


def split_target(target: str) -> tuple[str, str]:
    """Path and query, still encoded, of a target in origin or in absolute form (RFC 9112 section
    3.2)."""
    if not target.startswith("/") and (absolute := ABSOLUTE.match(target)):
        target = target[absolute.end() :]
    path, _, query = target.partition("?")
    return path or "/", query


def _joined(name: str, values: list[str]) -> str:
    if len(values) == 1:
        return values[0]
    return ("; " if name.lower() == "cookie" else ", ").join(values)


class HeadersCore:
    """The base of `gworker.http.Headers`."""

    __slots__ = ("_fields",)

    def __init__(self, source: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, tuple[str, list[str]]] = {}
        for name, value in source.items() if isinstance(source, Mapping) else source:
            self.add(name, value)

    @classmethod
    def from_head(cls: type[_Headers], head: bytes) -> _Headers:
        """Return the fields of a message head that has been checked already."""
        headers = cls()
        fields = headers._fields
        for line in head.decode("latin-1").split("\r\n")[1:-2]:
            name, _, value = line.partition(":")
            key, value = name.lower(), value.strip(" \t")
            if key in fields:
                fields[key][1].append(value)
            else:
                fields[key] = (name, [value])
        return headers

    def add(self, name: str, value: str) -> None:
        """Add one more line, beside those of the same name."""
        check_field(name, value)
        key = name.lower()
        if key in self._fields:
            self._fields[key][1].append(value)
        else:
            self._fields[key] = (name, [value])

    def get_all(self, name: str) -> list[str]:
        """Return the values of all lines called `name`, in order; [] if there is none."""
        field = self._fields.get(name.lower())
        return list(field[1]) if field else []

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str | _T) -> str | _T: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        """Return the joined value of `name`, or `default`."""
        field = self._fields.get(name.lower())
        if field is None:
            return default
        return _joined(name, field[1])

    def encode(self, without: Container[str] = ()) -> bytes:
        """Return all lines as they are sent, except for fields whose names, in lower case, are in
        `without`."""
        return "".join(
            [
                f"{name}: {value}\r\n"
                for key, (name, values) in self._fields.items()
                if key not in without
                for value in values
            ]
        ).encode("latin-1")

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Iterate over all lines as (name, value); lines of one name stand together."""
        for name, values in self._fields.values():
            for value in values:
                yield name, value

    def __getitem__(self, name: str) -> str:
        return _joined(name, self._fields[name.lower()][1])

    def __setitem__(self, name: str, value: str) -> None:
        check_field(name, value)
        self._fields[name.lower()] = (name, [value])

    def __delitem__(self, name: str) -> None:
        del self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._fields.values())

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields


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


# ---- parameters and cookies

# Characters of what is parsed at once; with more, others have their turn meanwhile.
SMALL = 8192
MAX_PAIRS = 1000


def parse_pairs(encoded: str) -> list[tuple[str, str]] | None:
    """The decoded fields of application/x-www-form-urlencoded, in order, if these are few."""
    if len(encoded) > SMALL or not encoded.isascii() or encoded.count("&") >= MAX_PAIRS - 1:
        return None
    pairs = []
    for field in encoded.replace("+", " ").split("&"):
        name, separator, value = field.partition("=")
        if name or separator:
            pairs.append((unquote(name), unquote(value)))
    return pairs


def parse_cookies(field: str) -> dict[str, str]:
    """Return the cookies of a Cookie field; values as sent, without the quotes around them.

    Of two cookies with one name the first counts: browsers send the more specific path first.
    """
    cookies: dict[str, str] = {}
    for part in field.split(";"):
        name, separator, value = part.partition("=")
        name = name.strip()
        if separator and name and name not in cookies:
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            cookies[name] = value
    return cookies


# ---- answers

HTML: Final = b"Content-Type: text/html; charset=utf-8\r\n"
OCTETS: Final = b"Content-Type: application/octet-stream\r\n"
FRAMING: Final = frozenset({"connection", "content-length", "date", "transfer-encoding"})
"""Fields of a `Response` that are the protocol's."""

_START_HTML = status_line(200) + HTML + b"Content-Length: %d\r\n%b\r\n"
_START_OCTETS = status_line(200) + OCTETS + b"Content-Length: %d\r\n%b\r\n"
_WITH_CONTENT = {
    status: status_line(status) for status in range(200, 600) if status not in (204, 205, 304)
}


def encode_simple(message: object, response: type, fields: bytes, head_only: bool) -> bytes | None:
    """The answer to a request of HTTP/1.1 on a connection that stays, if `message` is str, bytes,
    or a `response` with such a body, a status that has content, and without Connection and
    Content-Length.

    response: the class of the answers that have header fields. fields: those that every answer has.
    head_only: without the content.
    """
    body: Any = message.body if type(message) is response else message  # type: ignore[attr-defined]
    kind = type(body)
    try:
        content = body.encode() if kind is str else body
    except UnicodeEncodeError:
        return None
    if type(content) is not bytes:
        return None
    if body is message:
        head = (_START_HTML if kind is str else _START_OCTETS) % (len(content), fields)
    else:
        start = _encode_start(message, content, HTML if kind is str else OCTETS)
        if start is None:
            return None
        head = b"%bContent-Length: %d\r\n%b\r\n" % (start, len(content), fields)
    return head if head_only else head + content


def _encode_start(response: Any, content: bytes, kind: bytes) -> bytes | None:
    line, headers = _WITH_CONTENT.get(response.status), response.headers
    if line is None or not isinstance(headers, HeadersCore):
        return None
    if "connection" in headers._fields or "content-length" in headers._fields:
        return None
    if not content or "content-type" in headers._fields:
        kind = b""
    return line + headers.encode(FRAMING) + kind
