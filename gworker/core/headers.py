"""The fields of a message head, in plain Python."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from gworker.core.fields import check_field

_T = TypeVar("_T")
_Headers = TypeVar("_Headers", bound="HeadersCore")


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
