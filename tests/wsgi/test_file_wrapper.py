from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from gworker.wsgi.file_wrapper import FileWrapper


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_bytes(b"0123456789")
    return made


def test_its_pieces(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(1)
        assert list(FileWrapper(file, 4)) == [b"1234", b"5678", b"9"]
    assert list(FileWrapper(io.BytesIO(b"abc"))) == [b"abc"]


def test_closing_it_closes_the_file_by_its_present_close(path: Path) -> None:
    file = path.open("rb")
    FileWrapper(file).close()
    assert file.closed

    class NoFile:
        pass

    FileWrapper(NoFile()).close()


def test_what_is_left_of_a_file(path: Path) -> None:
    with path.open("rb") as file:
        file.read(4)  # buffered: the descriptor stands at the end
        assert FileWrapper(file).extent() == (file.fileno(), 4, 6)
        file.seek(20)
        assert FileWrapper(file).extent() == (file.fileno(), 20, 0)


def test_what_has_to_be_read(path: Path) -> None:
    assert FileWrapper(io.BytesIO(b"abc")).extent() is None
    assert FileWrapper(object()).extent() is None
    read, write = os.pipe()
    os.close(write)
    with open(read, "rb", buffering=0) as pipe:
        assert FileWrapper(pipe).extent() is None
    file = path.open("rb")
    file.close()
    assert FileWrapper(file).extent() is None
