"""Writing lines to a descriptor without ever waiting for its reader.

A pipe that is not read, a terminal stopped by Ctrl-S: a blocking write(2) to them would stop the
arbiter or an event loop. O_NONBLOCK belongs to the open file description (open(2)), which stderr
shares with the shell and the programs before and after us, so it is not ours to set. But the same
pipe or terminal can be opened once more by /proc/self/fd (proc(5)), with a description of our own.

Where that is refused (a socket, another user's terminal) poll(2) is asked before each write, and a
write is no longer than PIPE_BUF: a pipe that polls writable takes that much without blocking
(pipe(7)). A Unix socket polls writable only while three quarters of its buffer are free.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from select import PIPE_BUF, POLLOUT, poll

NEWLINE = 0x0A

# Mode of new files: logs have addresses of clients, and what they asked for.
MODE = 0o640


class LineWriter:
    """Writes whole lines to a descriptor, which it does not own: what that refers to may be
    replaced by dup2(2)."""

    __slots__ = ("_torn", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._torn = False  # the last line was not written to its end

    def write(self, lines: bytes) -> int:
        """Write `lines`, at once if the system takes that many; return how many bytes it took.

        Raises OSError if it took none: BlockingIOError if that would mean to wait. After a short
        write the rest of the line is of no use: the next call begins a new one.
        """
        end = b"\n" if self._torn else b""
        taken = _write(self.descriptor, end + lines) - len(end)
        self._torn = taken > 0 and lines[taken - 1] != NEWLINE
        return taken


def _write(descriptor: int, data: bytes) -> int:
    if stat.S_ISREG(os.fstat(descriptor).st_mode) or not os.get_blocking(descriptor):
        return os.write(descriptor, data)
    asked = poll()
    asked.register(descriptor, POLLOUT)
    written = 0
    while written < len(data):
        try:
            if not asked.poll(0):  # true also for an error, which the write raises
                raise BlockingIOError
            written += os.write(descriptor, data[written : written + PIPE_BUF])
        except OSError:
            if written:
                break
            raise
    return written


def is_pipe(descriptor: int) -> bool:
    """True for a pipe or FIFO, in which only writes up to PIPE_BUF bytes stay whole (pipe(7))."""
    return stat.S_ISFIFO(os.fstat(descriptor).st_mode)


def open_path(path: str) -> int:
    """Open the file at `path` for appending, never waiting. Raises OSError.

    A FIFO is opened for reading as well, which Linux allows (fifo(7)): so it needs no reader yet,
    and keeps what was written when its reader is restarted.
    """
    mode = os.O_RDWR if Path(path).is_fifo() else os.O_WRONLY
    return os.open(
        path, mode | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, MODE
    )


def unshared(descriptor: int) -> int:
    """A non-blocking descriptor for the pipe or terminal behind `descriptor`; `descriptor` itself
    for all else."""
    try:
        if not (is_pipe(descriptor) or os.isatty(descriptor)):
            return descriptor
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        return os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:
        return descriptor
