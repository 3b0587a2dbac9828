"""The connections of all processes: no file is believed, and no row that makes no sense is
shown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from gworker.cli.connection_list import Listed, Row, as_json
from gworker.ipc import sealed_memory


def row(pid: int, number: int) -> Row:
    fields = dict.fromkeys(("worker", "transport", "protocol", "local", "remote", "status"), "x")
    figures = dict.fromkeys(("recv_queue", "send_queue", "bytes_read", "bytes_written", "age"), 0)
    return {"pid": pid, "id": number, **fields, **figures}


def file(*rows: object, is_sealed: bool = True) -> int:
    descriptor = sealed_memory.create("rows")
    for each in rows:
        os.write(descriptor, (json.dumps(each) + "\n").encode())
    if is_sealed:
        sealed_memory.seal(descriptor)
    return descriptor


@pytest.fixture
def listed() -> Iterator[Listed]:
    made = Listed(None)
    yield made
    made.close()


def test_rows_come_by_process_as_often_as_one_likes(listed: Listed) -> None:
    listed.add(20, file(row(20, 1)))
    listed.add(10, file(row(10, 1), row(10, 2)))
    for _ in range(2):
        assert [(each["pid"], each["id"]) for each in listed] == [(10, 1), (10, 2), (20, 1)]
    assert not listed.senseless


def test_no_more_than_the_limit() -> None:
    few = Listed(2)
    few.add(10, file(row(10, 1)))
    few.add(20, file(row(20, 1), row(20, 2)))
    assert [each["pid"] for each in few] == [10, 20]
    few.close()


def test_a_second_file_of_one_process_is_closed(listed: Listed) -> None:
    listed.add(10, file(row(10, 1)))
    second = file(row(10, 2))
    listed.add(10, second)
    assert [each["id"] for each in listed] == [1]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(second)


@pytest.mark.parametrize(
    "senseless",
    [
        {"pid": 11},
        {"age": "old"},
        {"age": True},
        {"worker": 5},
        {"status": None},
    ],
)
def test_what_makes_no_sense_is_named_and_what_came_before_is_shown(
    listed: Listed, senseless: dict[str, object]
) -> None:
    listed.add(10, file(row(10, 1), {**row(10, 2), **senseless}, row(10, 3)))
    assert [each["id"] for each in listed] == [1]
    assert listed.senseless == {10}


def test_a_file_that_could_change_is_not_read(listed: Listed) -> None:
    listed.add(10, file(row(10, 1), is_sealed=False))
    assert list(listed) == []
    assert listed.senseless == {10}


def test_as_json() -> None:
    rows = [{"pid": 1, "worker": 'a"b'}, {"pid": 2, "worker": "é"}]
    assert "".join(as_json(iter(rows))) == json.dumps(rows, indent=2) + "\n"
    assert "".join(as_json(iter([]))) == "[]\n"
