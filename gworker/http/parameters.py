"""Name=value pairs of a query string or a form."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl

MAX_FIELDS = 1000
"""A body of the allowed size could hold millions of empty fields, each dearer than its two bytes."""


class Parameters(dict[str, str]):
    """A dict from each name to its last value; `get_all` knows the others."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)
        super().__init__(self._pairs)

    @classmethod
    def parse(cls, encoded: str) -> Parameters:
        """Decode application/x-www-form-urlencoded. ValueError if there are more than MAX_FIELDS."""
        if not encoded:
            return cls()
        return cls(parse_qsl(encoded, keep_blank_values=True, max_num_fields=MAX_FIELDS))

    def get_all(self, name: str) -> list[str]:
        """Return all values of `name`, in order; [] if there is none."""
        return [value for key, value in self._pairs if key == name]

    def __reduce__(self) -> tuple[type[Parameters], tuple[tuple[tuple[str, str], ...]]]:
        return type(self), (self._pairs,)
