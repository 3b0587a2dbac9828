"""Where log lines go: a descriptor that every process of an instance shares, and how they look.

    [2026-11-23 10:00:00 +0000] [4711] [INFO] worker chat#0 is ready

Writing to a descriptor, not to a file object, lets the arbiter reopen the file for everybody: a
worker process gets the new descriptor and puts it in place of the old one.
"""

from __future__ import annotations

import logging
import os

log = logging.getLogger("gworker")


class DescriptorHandler(logging.Handler):
    """Write each record with one write(2), so that lines of different processes do not mix."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record`; a full disk or a closed terminal must not stop the server."""
        try:
            os.write(self.descriptor, (self.format(record) + "\n").encode(errors="backslashreplace"))
        except OSError:
            return


def configure(descriptor: int, level: str) -> None:
    """Send the log of this process to `descriptor`; and the warnings of user code that has set up no logging."""
    log.handlers[:] = [_handler(descriptor)]
    log.setLevel(level.upper())
    log.propagate = False
    # Not a handler of the root logger: that would make the application's logging.basicConfig() do nothing.
    logging.lastResort = _handler(descriptor, logging.WARNING)


def _handler(descriptor: int, level: int = logging.NOTSET) -> logging.Handler:
    handler = DescriptorHandler(descriptor)
    handler.setLevel(level)
    handler.setFormatter(
        logging.Formatter("[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s", "%Y-%m-%d %H:%M:%S %z")
    )
    return handler


def reopened(log_fd: int, log_file: str | None, stdout_file: str | None) -> list[tuple[int, int]]:
    """Open the files anew: (descriptor in use, new descriptor) pairs. Raises OSError; then none is open."""
    pairs: list[tuple[int, int]] = []
    wanted = [(log_fd, log_file), (1, stdout_file), (2, stdout_file)]
    try:
        for descriptor, path in wanted:
            if path is not None:
                pairs.append((descriptor, open_file(path)))
    except OSError:
        for _, new in pairs:
            os.close(new)
        raise
    return pairs


def replace(pairs: list[tuple[int, int]]) -> None:
    """Put each new descriptor in place of the one in use."""
    for descriptor, new in pairs:
        os.dup2(new, descriptor, inheritable=descriptor <= 2)
        os.close(new)


def open_file(path: str | None) -> int:
    """Open the log file for appending and return its descriptor; 2 (stderr) if there is none.

    Raises OSError if it cannot be opened.
    """
    if path is None:
        return 2
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
