"""Writing without waiting: full pipes, readers that have gone, full disks, lines that were cut."""

from __future__ import annotations

import errno
import os
import pty
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gworker.logs import nonblocking
from gworker.logs.nonblocking import LineWriter

Pipe = tuple[int, int]


@pytest.fixture(params=["unshared", "shared"])
def pipe(request: pytest.FixtureRequest) -> Iterator[Pipe]:
    """(reader, writer): a blocking pipe, and for `unshared` a description of our own for it."""
    reader, writer = os.pipe()
    own = nonblocking.unshared(writer) if request.param == "unshared" else writer
    assert (own != writer) == (request.param == "unshared")
    yield reader, own
    for descriptor in {reader, writer, own}:
        os.close(descriptor)


def fill(one: LineWriter, line: bytes = b"x" * 99 + b"\n") -> int:
    """Write until the system takes no more; return how many lines it took whole."""
    for number in range(100_000):
        try:
            if one.write(line) < len(line):
                return number
        except BlockingIOError:
            return number
    raise AssertionError("the pipe is never full")


def test_a_full_pipe_does_not_wait(pipe: Pipe) -> None:
    reader, writer = pipe
    one = LineWriter(writer)
    written = fill(one)
    assert written >= 500
    with pytest.raises(BlockingIOError):
        one.write(b"y" * 99 + b"\n")
    lines = os.read(reader, 1 << 20).splitlines()
    assert lines == [b"x" * 99] * written, "each of them whole"
    assert one.write(b"again\n") == 6
    assert os.read(reader, 100) == b"again\n"


def test_the_flags_of_a_shared_description_are_left_alone() -> None:
    reader, writer = os.pipe()
    own = nonblocking.unshared(writer)
    fill(LineWriter(own))
    assert os.get_blocking(writer)
    assert not os.get_blocking(own)
    assert not os.get_inheritable(own)
    for descriptor in (reader, writer, own):
        os.close(descriptor)


def test_a_line_longer_than_the_pipe_is_cut_and_the_next_one_is_whole(pipe: Pipe) -> None:
    reader, writer = pipe
    one = LineWriter(writer)
    long = b"y" * (1 << 20) + b"\n"
    taken = one.write(long)
    assert 4096 <= taken < len(long)
    cut = os.read(reader, 1 << 21)
    assert len(cut) == taken
    assert one.write(b"next\n") == 5
    assert os.read(reader, 100) == b"\nnext\n", "not glued to the line that was cut"
    assert one.write(b"third\n") == 6
    assert os.read(reader, 100) == b"third\n"


def test_a_reader_that_has_gone_is_an_error_and_no_signal(pipe: Pipe) -> None:
    reader, writer = pipe
    os.dup2(os.open(os.devnull, os.O_RDONLY), reader)
    with pytest.raises(BrokenPipeError):
        LineWriter(writer).write(b"line\n")


def test_a_socket_that_is_not_read_does_not_wait() -> None:
    ours, theirs = socket.socketpair()
    assert nonblocking.unshared(ours.fileno()) == ours.fileno(), (
        "a socket cannot be opened once more"
    )
    one = LineWriter(ours.fileno())
    assert fill(one) > 10
    with pytest.raises(BlockingIOError):
        one.write(b"one more\n")
    ours.close()
    theirs.close()


def test_a_terminal_that_is_stopped_does_not_wait() -> None:
    master, terminal = pty.openpty()
    own = nonblocking.unshared(terminal)
    assert own != terminal
    fill(LineWriter(own))
    assert os.get_blocking(terminal)
    for descriptor in (master, terminal, own):
        os.close(descriptor)


def test_a_file_takes_everything_and_a_full_disk_nothing(tmp_path: Path) -> None:
    descriptor = nonblocking.open_path(str(tmp_path / "log"))
    assert nonblocking.unshared(descriptor) == descriptor
    data = b"z" * 1_000_000 + b"\n"
    assert LineWriter(descriptor).write(data) == len(data)
    os.close(descriptor)
    full = nonblocking.open_path("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        LineWriter(full).write(b"line\n")
    assert caught.value.errno == errno.ENOSPC
    os.close(full)


def test_a_fifo_needs_no_reader(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = nonblocking.open_path(str(path))
    one = LineWriter(writer)
    assert one.write(b"early\n") == 6
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(reader, 100) == b"early\n"
    os.close(reader)
    assert one.write(b"kept\n") == 5, "for the next reader"
    os.close(writer)
