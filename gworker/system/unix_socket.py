"""The file of a unix socket: its mode and owner, set so that there is no moment in which more is
allowed.

connect(2) needs write permission on the file (unix(7)). bind(2) makes it with what the umask
leaves, so where a mode or an owner is asked for, it is made for its owner alone, then given away,
then opened.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gworker.errors import ConfigError
from gworker.system import privileges
from gworker.system.peer_address import credentials_of, renamed

log = logging.getLogger("gworker")

FOR_NOBODY_ELSE = 0o177
"""The umask under which a file is made whose owner is to change."""


class HeldError(OSError):
    """The path is in use. `pid`: of the process that listens there, 0 if it is not known."""

    def __init__(self, pid: int) -> None:
        super().__init__(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.pid = pid


@dataclass(frozen=True, slots=True)
class UnixFile:
    """What is asked for. None: what the umask leaves; who starts the instance."""

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

    @contextlib.contextmanager
    def being_made(self) -> Iterator[None]:
        """While bind(2) makes the file. The umask is the process's: nothing else may make files
        meanwhile."""
        if self == UnixFile():
            yield
            return
        before = os.umask(FOR_NOBODY_ELSE)
        try:
            yield
        finally:
            os.umask(before)

    def apply(self, path: str, shown: str = "") -> None:
        """Set owner and mode of the socket at `path`, and of nothing else. Raises OSError or
        ConfigError.

        shown: what users know it as, if it is there under another name.
        """
        uid, gid = privileges.resolve(self.user, None)[0], privileges.resolve(None, self.group)[1]
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                raise ConfigError(f"{shown or path} is no socket any more")
            # open(2): O_PATH; so a path that is swapped meanwhile does no harm
            file = f"/proc/self/fd/{descriptor}"
            if (uid, gid) != (-1, -1):
                _give(file, shown or path, uid, gid)
            os.chmod(file, 0o777 & ~_umask() if self.mode is None else self.mode)
        finally:
            os.close(descriptor)


def _give(file: str, path: str, uid: int, gid: int) -> None:
    try:
        os.chown(file, uid, gid)
    except PermissionError:
        who = " and ".join(
            f"{what} {number}" for what, number in (("user", uid), ("group", gid)) if number != -1
        )
        raise ConfigError(f"cannot give {path} to {who}: only root can") from None


def _umask() -> int:
    """This process's; it can only be read by setting it."""
    mask = os.umask(FOR_NOBODY_ELSE)
    os.umask(mask)
    return mask


def bind_file(socket: _socket.socket, path: str, file: UnixFile, backlog: int) -> None:
    """Bind to `path` and listen, and have the file as `file` says before anybody can use it
    otherwise.

    A file that nobody listens on is replaced. Raises OSError (EADDRINUSE if somebody does) or
    ConfigError.
    """
    if (pid := _listening_on(path)) is not None:
        raise HeldError(pid)
    _make(socket, path, path, file, backlog)


def _make(socket: _socket.socket, at: str, path: str, file: UnixFile, backlog: int) -> None:
    """Bind to `at`, which users know as `path`, and listen."""
    file.check()
    with file.being_made():
        socket.bind(at)
    try:
        if file != UnixFile():
            file.apply(at, path)
        socket.listen(backlog)
    except BaseException:
        os.unlink(at)
        raise


def _listening_on(path: str) -> int | None:
    """The same, and 0 for a process that is too busy to be asked."""
    try:
        return listening_on(path)
    except BlockingIOError:
        return 0


def listening_on(path: str) -> int | None:
    """The pid of the process that listens on `path`, 0 if it is not known; None: nobody, and no
    file is left there.

    Raises BlockingIOError if somebody does who is too busy to be asked, ConfigError for a file that
    is no socket.
    """
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ConfigError(
                f"cannot listen on unix://{path}: there is a file that is no socket; it is left "
                "alone"
            )
    except FileNotFoundError:
        return None
    with contextlib.closing(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return None
        listening = credentials_of(probe)
        return 0 if listening is None else listening.pid


class Claim:
    """To a path on which this process is to listen as soon as it accepts; until then the path is
    its predecessor's.

    The socket is bound beside it, where nobody connects, and put in its place by rename(2), so that
    there is no moment in which the path leads to nobody, and a process that does not get so far has
    changed nothing. The name beside it is a random one, so that what a killed process has left is
    in nobody's way, also where processes of several containers share the directory. It goes by a
    descriptor of the directory: with all of a long path before it, it would not fit into an address
    (unix(7), sun_path).

    is_sibling: tells by its pid whether the path may be taken from a process.
    """

    def __init__(self, path: str, is_sibling: Callable[[int], bool]) -> None:
        self.path = path
        self._is_sibling = is_sibling
        self._name = f".{os.getpid()}-{secrets.token_hex(4)}"
        self._directory: int | None = None
        """Until the path is taken, or given up."""
        self._made: os.stat_result | None = None

    def bind(self, socket: _socket.socket, file: UnixFile, backlog: int) -> None:
        """Bind beside the path, and listen. Raises OSError (EADDRINUSE if it may not be taken) or
        ConfigError."""
        self._owner()
        self._directory = os.open(
            os.path.dirname(self.path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        )
        at = f"/proc/self/fd/{self._directory}/{self._name}"
        try:
            _make(socket, at, self.path, file, backlog)
        except BaseException:
            self._close_directory()
            raise
        self._made = os.lstat(at)
        renamed[at] = self.path

    def take(self) -> None:
        """Have the path lead to our socket. Raises OSError (EADDRINUSE if it may not be taken) or
        ConfigError."""
        try:
            self._put()
        except FileExistsError:  # somebody was quicker: look who
            self._put()
        self._close_directory()

    def remove(self) -> None:
        """Remove our file, wherever it is now, unless somebody has put another one in its place."""
        if self._directory is None:
            remove(self.path, self._made)
            return
        with contextlib.suppress(OSError):
            os.unlink(self._name, dir_fd=self._directory)
        self._close_directory()

    def _owner(self) -> int | None:
        """The pid of the process from which the path may be taken; None: nobody has it. Raises
        HeldError."""
        pid = _listening_on(self.path)
        if pid is None or (pid != os.getpid() and self._is_sibling(pid)):
            return pid
        raise HeldError(pid)

    def _put(self) -> None:
        owner, name, at = self._owner(), os.path.basename(self.path), self._directory
        if owner is None:
            os.link(
                self._name, name, src_dir_fd=at, dst_dir_fd=at
            )  # replaces nobody who has come meanwhile
            os.unlink(self._name, dir_fd=at)
        else:
            os.rename(self._name, name, src_dir_fd=at, dst_dir_fd=at)
            log.info("unix://%s is taken over from process %d", self.path, owner)

    def _close_directory(self) -> None:
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None


def remove(path: str, made: os.stat_result | None) -> None:
    """Remove the file that was `made` at `path`, unless another one has been put there since."""
    with contextlib.suppress(OSError):
        if made is not None and os.path.samestat(made, os.lstat(path)):
            os.unlink(path)
