"""The connections of all processes as a command shows them: read from what each of them has
written, row by row.

Whatever the number of connections, one row is in memory. A worker process may run as another user,
so nothing that it has written is believed: a file has to be sealed, and of a bearable size, and
each line one row.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

from gworker.cli.figures import text
from gworker.cli.tables import CONNECTIONS
from gworker.ipc import sealed_memory

MOST_BYTES = 1 << 30
MOST_LINE = 1 << 16  # of the file of one process, and of one row in it

Row = dict[str, Any]


class Listed:
    """What was received, to be iterated over, as often as one likes: ordered by process and id."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._files: dict[int, int] = {}
        # Processes whose rows make no sense. What made sense before is shown.
        self.senseless: set[int] = set()

    def add(self, pid: int, descriptor: int) -> None:
        if pid in self._files:
            os.close(descriptor)
        else:
            self._files[pid] = descriptor

    def __iter__(self) -> Iterator[Row]:
        rows = itertools.chain.from_iterable(map(self._rows_of, sorted(self._files)))
        return itertools.islice(rows, self._limit)

    def _rows_of(self, pid: int) -> Iterator[Row]:
        # As far as they make sense.
        try:
            sealed_memory.size_of(self._files[pid], MOST_BYTES)
            with open(os.dup(self._files[pid]), "rb") as file:
                file.seek(0)
                while line := file.readline(MOST_LINE):
                    yield _checked(json.loads(line), pid)
        except (ValueError, RecursionError, OSError):
            self.senseless.add(pid)

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])


def _checked(row: Any, pid: int) -> Row:
    # Raises ValueError.
    if not isinstance(row, dict) or row.get("pid") != pid:
        raise ValueError(f"no row of process {pid}")
    for column in CONNECTIONS:
        if type(row.get(column.key)) is not (str if column.show is text else int):
            raise ValueError(f"no row: {column.key}")
    return row


def as_json(rows: Iterator[Row]) -> Iterator[str]:
    # As `json.dumps` writes it with an indent of 2, in pieces.
    before = "[\n"
    for row in rows:
        fields = ",\n".join(
            f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in row.items()
        )
        yield f"{before}  {{\n{fields}\n  }}"
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"
