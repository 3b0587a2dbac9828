"""A sealed file is what it was, and what is not sealed is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from gworker.ipc import sealed_memory


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = sealed_memory.create("test")
    os.write(descriptor, b"12345")
    yield descriptor
    os.close(descriptor)


def test_a_sealed_file_cannot_be_changed(memory: int) -> None:
    sealed_memory.seal(memory)
    assert sealed_memory.size_of(memory, 5) == 5
    for change in (lambda: os.write(memory, b"6"), lambda: os.ftruncate(memory, 0)):
        with pytest.raises(PermissionError):
            change()
    assert os.pread(memory, 10, 0) == b"12345"
    assert not os.get_inheritable(memory)


def test_one_that_may_change_is_refused(memory: int) -> None:
    with pytest.raises(ValueError, match="not sealed"):
        sealed_memory.size_of(memory, 5)
    with open("/etc/passwd") as file, pytest.raises(ValueError, match="not sealed"):
        sealed_memory.size_of(file.fileno(), 1 << 30)


def test_one_that_is_too_large_is_refused(memory: int) -> None:
    sealed_memory.seal(memory)
    with pytest.raises(ValueError, match="larger than 4 bytes"):
        sealed_memory.size_of(memory, 4)
