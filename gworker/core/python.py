"""The core in plain Python: the names of the compiled one, their types and their meaning.

Functions that return None have not done it: it is left to the caller. All of them do so here, as
the callers have that code anyway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, TypeVar, overload
from urllib.parse import unquote

from gworker.core.fields import check_field

_T = TypeVar("_T")
_Headers = TypeVar("_Headers", bound="HeadersCore")
_Request = TypeVar("_Request", bound="RequestCore")

IMPLEMENTATION: Final[Literal["compiled", "Python"]] = "Python"

ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)")


def split_target(target: str) -> tuple[str, str]:
    """Path and query, still encoded, of a target in origin or in absolute form (RFC 9112 section
    3.2)."""
    absolute = ABSOLUTE.match(target)
    path, _, query = target[absolute.end() if absolute else 0 :].partition("?")
    return path or "/", query


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
        for line in head.decode("latin-1").split("\r\n")[1:-2]:
            name, _, value = line.partition(":")
            headers._add_unchecked(name, value.strip(" \t"))
        return headers

    def add(self, name: str, value: str) -> None:
        """Add one more line, beside those of the same name."""
        check_field(name, value)
        self._add_unchecked(name, value)

    def _add_unchecked(self, name: str, value: str) -> None:
        field = self._fields.get(name.lower())
        if field:
            field[1].append(value)
        else:
            self._fields[name.lower()] = (name, [value])

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
        values = field[1]
        return values[0] if len(values) == 1 else ", ".join(values)

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
        values = self._fields[name.lower()][1]
        return values[0] if len(values) == 1 else ", ".join(values)

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


def parse_request(
    cls: type[_Request], buffer: bytes | bytearray, pos: int, origin: Any, max_body: int
) -> tuple[_Request, bytes, int] | None:
    """The request that begins at `pos` and is whole, its head, and where what follows it begins.

    cls: of the request. max_body: bytes of the longest body that is to be handed out whole.
    """
    return None


def parse_pairs(encoded: str) -> list[tuple[str, str]] | None:
    """The decoded fields of application/x-www-form-urlencoded, in order."""
    return None


def parse_cookie_field(field: str) -> dict[str, str] | None:
    """The cookies of a Cookie field, as `gworker.http.cookies.parse_cookies` has them."""
    return None


def encode_simple(
    message: object, response: type, standing: bytes, head_only: bool
) -> bytes | None:
    """The answer to a request of HTTP/1.1 on a connection that stays.

    response: the class of the answers that have fields. standing: the fields that every answer has.
    head_only: without the content.
    """
    return None
