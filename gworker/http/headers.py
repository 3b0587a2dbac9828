"""Header fields: a case-insensitive mapping that keeps order, spelling and repetitions.

Everything that is set is checked, so that no value from a handler can end its line and begin
another field or another response.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import TypeAlias

from gworker.core import HeadersCore

HeaderSource: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]


class Headers(HeadersCore, MutableMapping[str, str]):
    """Mapping of field names to values.

    A name that occurs several times has one value, its lines joined by ", " (RFC 9110 section 5.2),
    those of Cookie by "; " (RFC 9113 section 8.2.3);
    `get_all` returns them apart, which `Set-Cookie` needs. Iteration gives each name once, as it
    was spelt first, in order of first appearance.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Headers({list(self.pairs())!r})"


def tokens(headers: Mapping[str, str], name: str) -> list[str]:
    """Return the members of the list in field `name`, in lower case."""
    return [token.strip(" \t") for token in headers.get(name, "").lower().split(",")]
