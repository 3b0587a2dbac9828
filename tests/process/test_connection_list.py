"""Lists of connections: made in slices by a process, sealed, and read row by row by a command that
trusts none of them."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from greenlet import getcurrent, greenlet

from gworker.cli import tables
from gworker.cli.connection_list import MOST_LINE, Listed, as_json
from gworker.cli.figures import text
from gworker.ipc import sealed_memory
from gworker.process.connection_list import SLICE, list_connections


class Peer:
    """As much of a connection as a row shows."""

    transport, protocol, local_address, remote_address = "tcp", "text", "127.0.0.1:1", "127.0.0.1:2"
    recv_queue = unacknowledged = bytes_read = bytes_written = accepted_at = 0
    status = "established"

    def __init__(self, number: int) -> None:
        self.id = number


class House:
    """A process with so many connections, whose turns a test makes."""

    def __init__(self, *numbers: int) -> None:
        self.steps: list[Any] = []
        self.service: Any = SimpleNamespace(
            registry=SimpleNamespace(
                connections={number: Peer(number) for number in numbers}, dialled={}
            ),
            worker=SimpleNamespace(name="chat"),
            greenlets=SimpleNamespace(running={}),
            run_queue=SimpleNamespace(wait=self._wait),
        )
        self.files: list[list[int]] = []

    def begin(self, limit: int | None = None) -> None:
        greenlet(list_connections).switch(self.service, limit, self._done)

    def _wait(self) -> None:
        me = getcurrent()
        self.steps.append(me.switch)
        assert me.parent is not None
        me.parent.switch()

    def _done(self, files: list[int]) -> None:
        self.files.append([os.dup(each) for each in files])

    def finish(self) -> list[dict[str, Any]]:
        """All turns that it takes, and the rows."""
        while self.steps:
            self.steps.pop()()
        ((file,),) = self.files
        with open(file, "rb") as one:
            one.seek(0)
            return [json.loads(line) for line in one]


def ids(rows: Any) -> list[int]:
    return [row["id"] for row in rows]


# ---- making them


def test_rows_are_made_in_slices() -> None:
    house = House(*range(1, 3 * SLICE + 2))
    house.begin()
    turns = 0
    while house.steps:
        assert not house.files
        house.steps.pop()()
        turns += 1
    assert turns == 3
    assert ids(house.finish()) == list(range(1, 3 * SLICE + 2))


def test_of_many_connections_a_few_cost_what_a_few_cost() -> None:
    house = House(*range(1000))
    house.begin(limit=3)
    assert not house.steps
    assert ids(house.finish()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("limit", "expected"), [(0, []), (2, [1, 3]), (3, [1, 3, 7]), (4, [1, 3, 7]), (None, [1, 3, 7])]
)
def test_the_first_by_their_ids(limit: int | None, expected: list[int]) -> None:
    house = House(7, 3)
    house.service.registry.dialled[1] = Peer(1)
    house.begin(limit)
    assert ids(house.finish()) == expected


def test_one_that_closes_meanwhile_has_no_row_and_one_that_comes_neither() -> None:
    house = House(*range(2 * SLICE))
    house.begin()
    del house.service.registry.connections[SLICE]
    house.service.registry.connections[-1] = Peer(-1)
    assert ids(house.finish()) == [number for number in range(2 * SLICE) if number != SLICE]


def test_a_row_that_cannot_be_made_ends_the_list(caplog: pytest.LogCaptureFixture) -> None:
    house = House(1)
    house.service.registry.connections[2] = SimpleNamespace(id=2)
    house.begin()
    assert house.files == [[]]
    assert "cannot list the connections" in caplog.text


def test_a_list_that_is_made_cannot_be_changed() -> None:
    house = House(1)
    house.begin()
    ((file,),) = house.files
    with pytest.raises(PermissionError):
        os.write(file, b"more")
    with pytest.raises(PermissionError):
        os.ftruncate(file, 0)
    os.close(file)


# ---- reading them


def row(pid: int, number: int, **other: Any) -> dict[str, Any]:
    made = {column.key: "text" if column.show is text else 1 for column in tables.CONNECTIONS}
    return {**made, "pid": pid, "id": number, **other}


def file_of(*lines: Any, is_sealed: bool = True) -> int:
    descriptor = sealed_memory.create("rows")
    for line in lines:
        os.write(descriptor, line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
    if is_sealed:
        sealed_memory.seal(descriptor)
    return descriptor


@pytest.fixture
def listed() -> Iterator[Listed]:
    one = Listed(None)
    yield one
    one.close()


def test_they_are_ordered_by_process_and_can_be_read_twice(listed: Listed) -> None:
    listed.add(20, file_of(row(20, 1)))
    listed.add(10, file_of(row(10, 5), row(10, 6)))
    for _ in range(2):
        assert [(each["pid"], each["id"]) for each in listed] == [(10, 5), (10, 6), (20, 1)]
    assert not listed.senseless


def test_the_limit_holds_for_all_processes_together() -> None:
    listed = Listed(3)
    listed.add(10, file_of(row(10, 1), row(10, 2)))
    listed.add(20, file_of(row(20, 1), row(20, 2)))
    assert [(each["pid"], each["id"]) for each in listed] == [(10, 1), (10, 2), (20, 1)]
    listed.close()


@pytest.mark.parametrize(
    "bad",
    [
        b"no json\n",
        b"[1]\n",
        b"[" * 10_000 + b"\n",
        row(7, 2),
        row(10, 2, remote=5),
        row(10, 2, bytes_read="many"),
        row(10, 2, age=True),
        {"pid": 10},
        row(10, 2, more="x" * MOST_LINE),
    ],
    ids=[
        "no json",
        "no row",
        "deep",
        "of another process",
        "type",
        "type of a number",
        "bool",
        "fields",
        "too long",
    ],
)
def test_what_makes_no_sense_is_left_out_and_named(listed: Listed, bad: Any) -> None:
    listed.add(10, file_of(row(10, 1), bad, row(10, 3)))
    listed.add(20, file_of(row(20, 1)))
    assert [(each["pid"], each["id"]) for each in listed] == [(10, 1), (20, 1)]
    assert listed.senseless == {10}


def test_a_file_that_is_not_sealed_is_not_read(listed: Listed) -> None:
    """It could change under us, or never end."""
    listed.add(10, file_of(row(10, 1), is_sealed=False))
    listed.add(20, os.open("/dev/zero", os.O_RDONLY))
    reader, writer = os.pipe()
    listed.add(30, reader)
    assert list(listed) == []
    assert listed.senseless == {10, 20, 30}
    os.close(writer)


def test_a_file_that_is_too_large_is_not_read(
    listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gworker.cli.connection_list.MOST_BYTES", 1000)
    listed.add(10, file_of(b" " * 1001))
    assert list(listed) == []
    assert listed.senseless == {10}


def test_a_second_file_of_a_process_is_not_shown(listed: Listed) -> None:
    listed.add(10, file_of(row(10, 1)))
    listed.add(10, file_of(row(10, 2)))
    assert ids(listed) == [1]


# ---- showing them


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_is_written_as_json_dumps_does(count: int) -> None:
    rows = [row(10, number, remote='"é"') for number in range(count)]
    assert "".join(as_json(iter(rows))) == json.dumps(rows, indent=2) + "\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_is_what_it_always_was(listed: Listed) -> None:
    rows = [row(10, number, remote="x" * number) for number in range(9)]
    listed.add(10, file_of(*rows))
    whole, streamed = io.StringIO(), io.StringIO()
    tables.render([tables.table(tables.CONNECTIONS, rows)], whole)
    tables.stream(tables.CONNECTIONS, listed, streamed)
    assert streamed.getvalue() == whole.getvalue()


def test_a_terminal_gets_few_rows_drawn_and_many_in_columns(listed: Listed) -> None:
    few, many = Terminal(), Terminal()
    tables.stream(tables.CONNECTIONS, [row(10, 1)], few)
    assert "─" in few.getvalue()
    listed.add(10, file_of(*[row(10, number) for number in range(tables.MOST_DRAWN + 1)]))
    tables.stream(tables.CONNECTIONS, listed, many)
    assert "─" not in many.getvalue()
    assert many.getvalue().count("\n") == tables.MOST_DRAWN + 2


@pytest.mark.parametrize("as_", ["json", "table"])
def test_memory_does_not_grow_with_their_number(listed: Listed, as_: str) -> None:
    listed.add(10, file_of(*[row(10, number) for number in range(5_000)]))
    with open(os.devnull, "w") as out:
        tracemalloc.start()
        if as_ == "json":
            out.writelines(as_json(iter(listed)))
        else:
            tables.stream(tables.CONNECTIONS, listed, out)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 300_000


def test_greenlets_beside_a_handler_are_shown() -> None:
    house = House(1, 2)
    house.service.greenlets.running[2] = {"one", "other"}
    house.begin()
    (files,) = house.files
    with open(files[0], "rb") as file:
        file.seek(0)
        rows = [json.loads(line) for line in file]
    assert [row["status"] for row in rows] == ["established", "established, 2 greenlets"]
