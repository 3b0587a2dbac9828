from __future__ import annotations

import gzip
import io
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

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


def test_a_file_in_another_object(path: Path) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"abc")
        file.seek(1)
        assert FileWrapper(SimpleNamespace(file=file)).extent() is None  # it has no tell()
        assert FileWrapper(file).extent() == (file.fileno(), 1, 2)


def test_a_file_that_decodes_has_to_be_read(path: Path) -> None:
    with gzip.open(path, "wb") as file:
        file.write(b"a" * 1000)
    with gzip.open(path, "rb") as file:
        assert FileWrapper(file).extent() is None
        assert b"".join(FileWrapper(file)) == b"a" * 1000


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
