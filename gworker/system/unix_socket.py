"""Unix sockets that have a file: binding and connecting to a path, and the file's mode and owner.

connect(2) needs write permission on the file (unix(7)). bind(2) makes it with what the umask
leaves, so where a mode or an owner is asked for, it is made for its owner alone, then given away,
then opened: there is no moment in which more is allowed.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gworker.errors import ConfigError
from gworker.system import privileges
from gworker.system.address import MAX_UNIX_PATH
from gworker.system.peer_address import credentials_of

OWNER_ONLY = 0o177  # the umask under which a file is made whose owner is to change


class HeldError(OSError):
    """The path is in use. `pid`: of the process that listens there, 0 if it is not known."""

    def __init__(self, pid: int) -> None:
        super().__init__(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.pid = pid


@dataclass(frozen=True, slots=True)
class UnixFile:
    """Mode and owner that are asked for. None: what the umask leaves; the user of the instance."""

    mode: int | None = None
    user: str | None = None
    group: str | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> UnixFile:
        """What a Worker's options say: `unix_mode`, `unix_user`, `unix_group`."""
        return cls(options.get("unix_mode"), options.get("unix_user"), options.get("unix_group"))

    def check(self) -> None:
        """Raise ConfigError for a user or group that does not exist."""
        privileges.resolve(self.user, self.group)

    def apply(self, path: str) -> None:
        """Set owner and mode of the socket at `path`, and of nothing else. Raises OSError or
        ConfigError."""
        uid, gid = privileges.resolve(self.user, None)[0], privileges.resolve(None, self.group)[1]
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                raise ConfigError(f"{path} is no socket any more")
            # open(2): O_PATH; so a path that is swapped meanwhile does no harm
            file = f"/proc/self/fd/{descriptor}"
            if (uid, gid) != (-1, -1):
                _give(file, path, uid, gid)
            with _umask(OWNER_ONLY) as usual:  # it can only be read by setting it
                os.chmod(file, 0o777 & ~usual if self.mode is None else self.mode)
        finally:
            os.close(descriptor)


PRIVATE = UnixFile(mode=0o600)


@contextlib.contextmanager
def address_of(path: str) -> Iterator[str]:
    """An address for bind(2) and connect(2) to the socket at `path`, which may be longer than an
    address can be (`sun_path`, unix(7)). Raises OSError."""
    if len(os.fsencode(path)) <= MAX_UNIX_PATH:
        yield path
        return
    directory, name = os.path.split(path)
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def _give(file: str, path: str, uid: int, gid: int) -> None:
    try:
        os.chown(file, uid, gid)
    except PermissionError:
        owner = " and ".join(
            f"{what} {number}" for what, number in (("user", uid), ("group", gid)) if number != -1
        )
        raise ConfigError(f"cannot give {path} to {owner}: only root can") from None


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[int]:
    # Another umask; gives the usual one. Nothing else in the process may make files meanwhile.
    usual = os.umask(mask)
    try:
        yield usual
    finally:
        os.umask(usual)


def bind_file(socket: _socket.socket, path: str, file: UnixFile, backlog: int) -> None:
    """Bind to `path` and listen, with the mode and the owner of `file` from the first moment on.

    A file that a dead process has left is replaced. Raises OSError (HeldError if a process listens
    there) or ConfigError.
    """
    if (pid := _listening_on(path)) is not None:
        raise HeldError(pid)
    file.check()
    is_usual = file == UnixFile()
    with contextlib.nullcontext() if is_usual else _umask(OWNER_ONLY), address_of(path) as address:
        socket.bind(address)
    try:
        if not is_usual:
            file.apply(path)
        socket.listen(backlog)
    except BaseException:
        os.unlink(path)
        raise


def _listening_on(path: str) -> int | None:
    # Return the pid of the process that listens on `path`, 0 if it is not known.
    #
    # None: no process does. The file that one has left behind is removed. Raises ConfigError for a
    # file that is no socket.
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ConfigError(
                f"cannot listen on unix://{path}: there is a file that is no socket; it is left "
                "alone"
            )
    except FileNotFoundError:
        return None
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    with contextlib.closing(probe), address_of(path) as address:
        probe.setblocking(False)
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            os.unlink(path)
            return None
        except BlockingIOError:  # its queue is full
            return 0
        listening = credentials_of(probe)
        return 0 if listening is None else listening.pid


def remove(path: str, made: os.stat_result | None) -> None:
    """Remove the file that was `made` at `path`, unless another one has been put there since."""
    with contextlib.suppress(OSError):
        if made is not None and os.path.samestat(made, os.lstat(path)):
            os.unlink(path)
