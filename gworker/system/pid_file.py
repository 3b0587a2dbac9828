"""A pid file whose lock says who runs; the number in it is only for people and for `kill`.

The owner holds an exclusive flock on the file for as long as it lives. The kernel drops the lock
when the last copy of that open file is closed, so a crash leaves a file without a lock, which is
stale whatever number stands in it. Forked children share the open file, hence the lock: each must
call `close_in_child`, or the lock would outlive its owner. Never `LOCK_UN` in a child: that would
unlock it for the parent too.

The file appears with its content: it is written beside and renamed into place while the lock of the
file that it replaces is held. The content is the pid and a newline.

This file knows paths and pids. It does not know what they belong to.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import NamedTuple

from gworker.errors import ConfigError

MODE = 0o644  # not reduced by the umask that was inherited: pid files are for other tools to read
READERS_SECONDS = (
    1.0  # `holder` has it locked for an instant; anybody who may read it can keep it locked
)
MAX_CONTENT = 64  # bytes; anything longer is somebody's file, not a pid file


class PidFile:
    """One pid file. `acquire` and `release` are for its owner; a fork in between calls
    `close_in_child`.

    mask: the bits that its mode shall not have.
    """

    def __init__(self, path: str, mask: int = 0) -> None:
        self.path = path
        self._mode = MODE & ~mask
        self.pid = 0  # the owner's, while acquired
        self._fd = -1

    def acquire(self) -> None:
        """Lock and write the file for this process. Raises ConfigError if somebody else holds
        it."""
        end = time.monotonic() + READERS_SECONDS
        try:
            while self._fd < 0:
                if time.monotonic() > end:
                    raise ConfigError(
                        f"cannot lock pid file {self.path}: another program keeps a lock on it "
                        "(flock)"
                    )
                self._fd = self._try_acquire()
        except OSError as error:
            raise ConfigError(f"cannot write pid file {self.path}: {error.strerror}") from None
        self.pid = os.getpid()

    def _try_acquire(self) -> int:
        """One attempt: the locked descriptor, or -1 to try again."""
        try:
            old = _open(self.path)
        except FileNotFoundError:
            return self._install(replace=False)
        try:
            if not self._lock(old) or not _is_current(old, self.path):
                return -1
            if _read(old) is None:
                raise ConfigError(f"{self.path} exists and is not a pid file")
            return self._install(replace=True)
        finally:
            os.close(old)

    def _lock(self, fd: int) -> bool:
        """Lock a file found in place. False: look again. Raises ConfigError if its owner lives."""
        if _flock(fd, fcntl.LOCK_EX):
            return True
        if _flock(fd, fcntl.LOCK_SH):
            time.sleep(0.001)  # only readers in `holder` stood in the way, for an instant
            return False
        raise ConfigError(
            f"the owner of {self.path} is already running (pid {_read(fd) or 'unknown'})"
        )

    def _install(self, replace: bool) -> int:
        """Put a new, locked file in place. -1 if another came first."""
        beside = f"{self.path}.{os.getpid()}.new"
        _unlink(beside)  # of a process of the same number that was killed just here
        fd = os.open(
            beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, self._mode
        )
        try:
            os.fchmod(fd, self._mode)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(fd, f"{os.getpid()}\n".encode())
            _put(beside, self.path, replace)
        except FileExistsError:
            os.close(fd)
            return -1
        except BaseException:
            os.close(fd)
            raise
        finally:
            _unlink(beside)
        return fd

    @property
    def is_in_place(self) -> bool:
        """Whether the path still names the file that was acquired."""
        return self._fd >= 0 and _is_current(self._fd, self.path)

    def adopt(self, fd: int) -> None:
        """Own what this process has locked before an exec."""
        self._fd = fd
        self.pid = os.getpid()

    def release(self) -> None:
        """Remove the file if it is still the one that this process wrote, then unlock it."""
        if self._fd < 0:
            return
        # In this order: while we hold the lock, nobody can put another file in this one's place.
        if self.pid == os.getpid() and _is_current(self._fd, self.path):
            _unlink(self.path)
        self.close_in_child()

    def close_in_child(self) -> None:
        """Drop this process's copy without unlocking or removing anything."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def fileno(self) -> int:
        """The locked descriptor, for who must pass the lock through an exec."""
        return self._fd


class Claim(NamedTuple):
    """What a locked pid file says, and what it is: who may write it decides whether it can be
    believed."""

    pid: int
    file: os.stat_result


def claim(path: str) -> Claim | None:
    """What this pid file says while its owner lives; None if there is no owner, or no such pid
    file."""
    try:
        fd = _open(path)
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
    """The pid of the living owner of this pid file; None if there is no owner, or no such pid
    file."""
    found = claim(path)
    return None if found is None else found.pid


def _open(path: str) -> int:
    # flock needs no write permission. Non-blocking: a fifo of that name must not hang the start.
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(fd: int) -> int | None:
    """The pid in an open pid file, 0 if it is empty, None if this is no pid file."""
    try:
        content = os.pread(fd, MAX_CONTENT + 1, 0).strip()
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ESPIPE, errno.EINVAL):
            return None
        raise
    if len(content) > MAX_CONTENT or (content and not content.isdigit()):
        return None
    return int(content or 0)


def _is_current(fd: int, path: str) -> bool:
    """Whether `path` still names the open file `fd`: its owner may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except OSError:  # a directory of it may be gone, too
        return False


def _put(source: str, path: str, replace: bool) -> None:
    if replace:
        os.rename(source, path)
    else:
        os.link(source, path)  # fails if the path exists by now, which rename would not notice


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
