"""A pid file whose lock says which process owns it; the number in it is for people and for `kill`.

The owner holds an exclusive flock(2) on the file as long as it lives. The kernel drops the lock
when the last copy of that open file is closed, so a crash leaves a file without a lock, which is
stale whatever number it holds. Forked children share the open file, hence the lock: each must call
`close_in_child`, or the lock would outlive its owner. Never `LOCK_UN` in a child: that would unlock
it for the parent too.

The content is the pid and a newline. A stale file is removed under its lock, and a new one made:
its user, mode and place are the owner's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from typing import NamedTuple

from gworker.errors import ConfigError

MODE = 0o644  # not reduced by the umask: pid files are for other tools to read
READERS_SECONDS = 1.0  # `claim` locks the file for an instant; another program may keep it locked
MAX_CONTENT = 64  # bytes; a longer file is no pid file


class PidFile:
    """One pid file. `acquire` and `release` are for its owner; a fork in between calls
    `close_in_child`.

    mask: the bits that its mode shall not have. pid: the owner's, while it is acquired.
    """

    def __init__(self, path: str, mask: int = 0) -> None:
        self.path = path
        self.pid = 0
        self._mode = MODE & ~mask
        self._fd = -1

    def acquire(self) -> None:
        """Lock and write the file for this process. Raises ConfigError if another one holds it."""
        end = time.monotonic() + READERS_SECONDS
        try:
            while (fd := self._try_lock()) is None:
                if time.monotonic() > end:
                    raise ConfigError(
                        f"cannot lock pid file {self.path}: another program keeps a lock on it "
                        "(flock)"
                    )
                time.sleep(0.001)
            self.adopt(fd)
            os.fchmod(fd, self._mode)
            os.write(fd, b"%d\n" % self.pid)
        except OSError as error:
            self.close_in_child()
            raise ConfigError(f"cannot write pid file {self.path}: {error.strerror}") from None

    def _try_lock(self) -> int | None:
        # A new locked file in place; None: try again. Raises ConfigError if the owner of one that
        # is there lives.
        try:
            fd, is_new = _open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, self._mode), True
        except FileExistsError:
            try:
                fd, is_new = _open(self.path, os.O_RDONLY), False
            except FileNotFoundError:
                return None
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(os.close, fd)
            if _read(fd) is None:
                raise ConfigError(f"{self.path} exists and is not a pid file")
            if not _flock(fd, fcntl.LOCK_EX):
                if not _flock(fd, fcntl.LOCK_SH):
                    raise ConfigError(
                        f"the owner of {self.path} is already running (pid "
                        f"{_read(fd) or 'unknown'})"
                    )
                return None  # only readers in `claim` were in the way
            if not is_current(fd, self.path):
                return None
            if not is_new:  # it may be another user's, and commands would not believe it
                os.unlink(self.path)
                return None
            cleanup.pop_all()
        return fd

    @property
    def is_in_place(self) -> bool:
        """Whether the path still names the file that was acquired."""
        return is_current(self._fd, self.path)

    def adopt(self, fd: int) -> None:
        """Own the file that this process has locked, perhaps before an exec."""
        self._fd = fd
        self.pid = os.getpid()

    def release(self) -> None:
        """Remove the file if it is still the one that this process wrote, then unlock it."""
        # In this order: while this process holds the lock, no other takes the path.
        if self.pid == os.getpid() and self.is_in_place:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
        self.close_in_child()

    def close_in_child(self) -> None:
        """Drop this process's copy without unlocking or removing anything."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def fileno(self) -> int:
        """The locked descriptor, to pass the lock through an exec."""
        return self._fd


class Claim(NamedTuple):
    """The pid in a locked pid file, and the file: its owner decides whether it can be trusted."""

    pid: int
    file: os.stat_result


def claim(path: str) -> Claim | None:
    """The content of this pid file while its owner lives; None if there is no owner, or no such
    file."""
    try:
        fd = _open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        if _flock(fd, fcntl.LOCK_SH):
            return None
        pid = _read(fd)
        return Claim(pid, os.fstat(fd)) if pid else None
    finally:
        os.close(fd)


def holder(path: str) -> int | None:
    """The pid of the living owner of this pid file; None if there is none."""
    found = claim(path)
    return None if found is None else found.pid


def _open(path: str, flags: int, mode: int = 0) -> int:
    # Non-blocking: a named pipe must not hang the start.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, mode)


def _flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(fd: int) -> int | None:
    # The pid in an open pid file, 0 if it is empty, None if this is no pid file.
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return None
    content = os.pread(fd, MAX_CONTENT + 1, 0).strip()
    if len(content) > MAX_CONTENT or (content and not content.isdigit()):
        return None
    return int(content or 0)


def is_current(fd: int, path: str) -> bool:
    """Whether `path` still names the open file `fd`: it may be removed or replaced by now."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except OSError:  # a directory in the path may be gone, too
        return False
