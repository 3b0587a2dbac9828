"""Header fields: a case-insensitive mapping that keeps order, spelling and repetitions.

Everything that is set is checked here, so that no value from a handler can end its line and begin
another field or another response.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Final, TypeAlias, TypeVar, overload

_T = TypeVar("_T")
HeaderSource: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

# One character of a token, for regular expressions (RFC 9110 section 5.6.2): field names, methods,
# cookie names and the members of most lists are tokens.
TCHAR: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
TOKEN: Final = TCHAR + "+"
_TOKEN = re.compile(TOKEN)

# RFC 9110 section 5.5: no CR, LF, NUL or other control; beyond latin-1 it has no bytes at all.
_NOT_IN_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


def check_field(name: str, value: str) -> None:
    """Raise ValueError unless `name: value` is one header line, TypeError unless both are str."""
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(
            f"a header needs str: str, not {type(name).__name__}: {type(value).__name__}"
        )
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"header name {name!r} is not a token")
    bad = _NOT_IN_VALUE.search(value)
    if bad:
        raise ValueError(f"header {name} contains {bad[0]!r}")


class Headers(MutableMapping[str, str]):
    """Mapping of field names to values.

    A name that occurs several times has one value, its lines joined by ", " (RFC 9110 section 5.2);
    `get_all` returns them apart, which `Set-Cookie` needs. Iteration gives each name once, as it
    was spelt first, in order of first appearance.
    """

    __slots__ = ("_fields",)

    def __init__(self, source: HeaderSource = ()) -> None:
        self._fields: dict[str, tuple[str, list[str]]] = {}
        for name, value in source.items() if isinstance(source, Mapping) else source:
            self.add(name, value)

    @classmethod
    def from_head(cls, head: bytes) -> Headers:
        """Return the fields of a message head that has been checked already."""
        headers = cls()
        for line in head.decode("latin-1").split("\r\n")[1:-2]:
            name, _, value = line.partition(":")
            headers.add_unchecked(name, value.strip(" \t"))
        return headers

    def add(self, name: str, value: str) -> None:
        """Add one more line, beside those of the same name."""
        check_field(name, value)
        self.add_unchecked(name, value)

    def add_unchecked(self, name: str, value: str) -> None:
        self._fields.setdefault(name.lower(), (name, []))[1].append(value)

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
        return self[name] if name.lower() in self._fields else default

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

    def __repr__(self) -> str:
        return f"Headers({list(self.pairs())!r})"


def tokens(headers: Mapping[str, str], name: str) -> list[str]:
    """Return the members of the list in field `name`, in lower case."""
    return [token.strip(" \t") for token in headers.get(name, "").lower().split(",")]
