"""Name=value pairs of a query string or a form."""

from __future__ import annotations

from collections.abc import Iterable

from gworker.core import parse_pairs
from gworker.http.slices import Slices

# A body of the allowed size could hold millions of empty fields, each far larger in memory.
MAX_FIELDS = 1000


class Parameters(dict[str, str]):
    """A dict from each name to its last value; `get_all` knows the others."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)
        dict.__init__(self, self._pairs)  # quicker than by super()

    @classmethod
    def parse(cls, encoded: str) -> Parameters:
        """Decode application/x-www-form-urlencoded. ValueError if there are more than
        MAX_FIELDS."""
        if (plain := parse_pairs(encoded)) is not None:
            return cls(plain)
        if encoded.count("&") >= MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS} fields")
        decode, pairs = Slices().unquoted, []
        for field in encoded.replace("+", " ").split("&"):
            name, separator, value = field.partition("=")
            if name or separator:
                pairs.append((decode(name), decode(value)))
        return cls(pairs)

    def get_all(self, name: str) -> list[str]:
        """Return all values of `name`, in order; [] if there is none."""
        return [value for key, value in self._pairs if key == name]

    def __reduce__(self) -> tuple[type[Parameters], tuple[tuple[tuple[str, str], ...]]]:
        return type(self), (self._pairs,)
