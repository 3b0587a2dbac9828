"""The open connections of one process, by id, as its user sees them."""

from __future__ import annotations

from _collections_abc import dict_keys
from collections.abc import Iterator
from typing import Any


class OpenConnections(dict[int, Any]):
    """A dict whose iterators go over a snapshot: connections may be opened and closed in the loop.

    A connection that has closed since the snapshot was taken still comes, with `status` "closed".
    The length, and one connection by its id, cost what they cost of every dict.
    """

    __slots__ = ()

    def __iter__(self) -> Iterator[int]:
        return iter(list(super().keys()))

    def __reversed__(self) -> Iterator[int]:
        return reversed(list(super().keys()))

    def keys(self) -> dict_keys[int, Any]:
        return dict.fromkeys(super().keys()).keys()

    # Lists. A view of a snapshot, which the base class promises, would cost ten times as much.

    def values(self) -> Any:
        return list(super().values())

    def items(self) -> Any:
        return list(super().items())
