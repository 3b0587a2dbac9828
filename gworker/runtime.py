"""Where an instance's files are, and which instances run.

An instance NAME owns `<runtime_dir>/<slug>.pid` (locked, see pidfile.py) and `<runtime_dir>/<slug>.sock`, the
control socket. With --pid FILE it also owns a second pid file there and a symlink beside it to the socket, so
that FILE alone leads to the instance.

`RuntimeFiles` is the arbiter's side; `find` and `scan` are the commands' side and change nothing.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gworker.config import default_runtime_dir
from gworker.errors import ConfigError, GworkerError
from gworker.pidfile import PidFile, holder

MAX_SUN_PATH = 107
"""Bytes of a unix socket's address without the closing zero (unix(7))."""

MAX_SLUG = 64

_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)


class NotRunning(GworkerError):
    """No instance of that description runs."""


class UnwritableError(ConfigError):
    """The runtime directory cannot be made or written."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A running instance as its files show it. `socket` may be missing while it starts."""

    label: str  # the name or pid file by which it was found, else its slug, which is accepted as a name
    pid: int
    socket: str


def slug(name: str) -> str:
    """A file name for an instance name: itself where possible, and `slug(slug(x)) == slug(x)`."""
    safe = re.sub(r"[^A-Za-z0-9._-]|^\.", "-", name)
    if safe == name and 0 < len(safe) <= MAX_SLUG:
        return name
    return f"{safe[: MAX_SLUG - 9]}-{zlib.crc32(name.encode(errors='surrogateescape')):08x}"


def pid_path(runtime_dir: str, name: str) -> str:
    return os.path.join(runtime_dir, slug(name) + ".pid")


def socket_path(pid_file: str) -> str:
    """The socket, or the symlink to it, that belongs to a pid file."""
    return pid_file.removesuffix(".pid") + ".sock"


@contextmanager
def unix_address(path: str) -> Iterator[str]:
    """An address for bind and connect to a socket at `path`, which may be longer than an address can be."""
    if len(os.fsencode(path)) <= MAX_SUN_PATH:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def peer(sock: socket.socket) -> tuple[int, int, int]:
    """pid, uid and gid of the other end of a unix socket, as the kernel knows them."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid


def clear_socket(path: str) -> None:
    """Remove a dead socket. Raises ConfigError if it is alive, or no socket."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path} is in the way of the control socket")
    if _answers(path):
        raise ConfigError(f"another instance listens on the control socket {path}")
    os.unlink(path)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, unix_address(path) as address:
        probe.setblocking(False)
        try:
            probe.connect(address)
        except BlockingIOError:
            return True  # its queue is full, so it has an owner
        except OSError:
            return False
        return True


def bind_socket(path: str, backlog: int) -> socket.socket:
    """A non-blocking listener at `path`, mode 0600."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # the socket is never there with another mode; the arbiter has one thread
    try:
        with unix_address(path) as address:
            listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


class RuntimeFiles:
    """The files of the instance that this process is the arbiter of."""

    def __init__(self, runtime_dir: str, name: str, pid_file: str | None = None) -> None:
        self.runtime_dir = runtime_dir
        self.name = name
        self.pid_path = pid_path(runtime_dir, name)
        self.socket_path: str | None = socket_path(self.pid_path)
        """Where the control socket is to be; None: there shall be none."""
        self._pid_files = [PidFile(self.pid_path)]
        self._link: str | None = None
        if pid_file is not None and os.path.realpath(pid_file) != os.path.realpath(self.pid_path):
            self._pid_files.append(PidFile(pid_file))
            self._link = socket_path(pid_file)

    def acquire(self) -> None:
        """Make the directory and take the pid files. Raises ConfigError; then nothing is held."""
        prepare(self.runtime_dir)
        try:
            self._acquire()
        except BaseException:
            self.release()
            raise

    def kept(self) -> list[int]:
        """The locked descriptors, for who must pass the locks through an exec."""
        return [pid_file.fileno() for pid_file in self._pid_files]

    def adopt(self, descriptors: list[int]) -> None:
        """Own what this process has locked before an exec."""
        for pid_file, descriptor in zip(self._pid_files, descriptors, strict=True):
            pid_file.adopt(descriptor)

    def _acquire(self) -> None:
        if (pid := holder(self.pid_path)) is not None:
            raise ConfigError(f"{self.name} is already running (pid {pid}); give a second one a --name")
        for pid_file in self._pid_files:
            pid_file.acquire()
        if self._link is not None and self.socket_path is not None:
            _symlink(self.socket_path, self._link)

    def release(self) -> None:
        """Remove what is ours and unlock. The socket belongs to who bound it."""
        if self._link is not None and self._holds_link():
            os.unlink(self._link)
        for pid_file in reversed(self._pid_files):
            pid_file.release()

    def _holds_link(self) -> bool:
        # Only while we hold the pid file beside it is the link ours.
        ours = self._pid_files[-1].pid == os.getpid() and self._pid_files[-1].fileno() >= 0
        return ours and _points_to(self._link or "", self.socket_path or "")

    def close_in_child(self) -> None:
        """Let go of the locks in a forked process, without unlocking them for the arbiter."""
        for pid_file in self._pid_files:
            pid_file.close_in_child()


class NoFiles(RuntimeFiles):
    """No file at all: for an instance that can write nowhere, and has a service manager or container runtime to
    find and to signal it."""

    def __init__(self, runtime_dir: str, name: str) -> None:
        super().__init__(runtime_dir, name)
        self.socket_path = None
        self._pid_files = []

    def acquire(self) -> None:
        """There is nothing to take."""


def prepare(runtime_dir: str) -> None:
    """Make the runtime directory, 0700, if it is missing. Raises ConfigError if it cannot be used."""
    advice = "choose another with --runtime-dir"
    try:
        os.makedirs(runtime_dir, mode=0o700, exist_ok=True)
        found = os.lstat(runtime_dir)
    except OSError as error:
        reason = f"cannot make the runtime directory {runtime_dir}: {error.strerror}"
        raise UnwritableError(f"{reason}; {advice}") from None
    if runtime_dir == default_runtime_dir():
        _check_private(runtime_dir, found)
    if not os.access(runtime_dir, os.W_OK | os.X_OK):
        raise UnwritableError(f"the runtime directory {runtime_dir} is not writable; {advice}")


def _check_private(path: str, found: os.stat_result) -> None:
    """Nobody else may have prepared the directory that is chosen for us (it may be under /tmp)."""
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ConfigError(
            f"the runtime directory {path} must be a directory of yours that nobody else can write;"
            " remove it or choose another with --runtime-dir"
        )


def _symlink(target: str, path: str) -> None:
    """Make `path` a symlink to `target`, in place of any older symlink."""
    beside = f"{path}.{os.getpid()}.new"
    try:
        if os.path.lexists(path) and not os.path.islink(path):
            raise ConfigError(f"{path} is in the way of the link to the control socket")
        os.symlink(target, beside)
        os.rename(beside, path)
    except OSError as error:
        raise ConfigError(f"cannot link {path} to the control socket: {error.strerror}") from None


def _points_to(path: str, target: str) -> bool:
    try:
        return os.readlink(path) == target
    except OSError:
        return False


def scan(runtime_dir: str) -> list[Instance]:
    """All instances that run with this runtime directory, sorted by label."""
    try:
        names = sorted(name for name in os.listdir(runtime_dir) if name.endswith(".pid"))
    except OSError:
        return []
    found = [instance for name in names if (instance := _at(os.path.join(runtime_dir, name)))]
    # A second pid file (--pid) may lie in the same directory; its socket is a symlink.
    found.sort(key=lambda instance: os.path.islink(instance.socket))
    unique = {instance.pid: instance for instance in reversed(found)}
    return sorted(unique.values(), key=lambda instance: instance.label)


def _at(pid_file: str, label: str = "") -> Instance | None:
    pid = holder(pid_file)
    if pid is None:
        return None
    return Instance(label or os.path.basename(pid_file).removesuffix(".pid"), pid, socket_path(pid_file))


def find(runtime_dir: str, name: str | None = None, pid_file: str | None = None) -> Instance:
    """The instance with this pid file, else with this name, else the only one.

    Raises NotRunning, or ConfigError if there are several to choose from.
    """
    if pid_file is not None:
        return _find_by_pid_file(runtime_dir, pid_file)
    if name is not None:
        return _found(_at(pid_path(runtime_dir, name), label=name), f"{name} is not running")
    running = scan(runtime_dir)
    if len(running) > 1:
        names = ", ".join(f"{instance.label} (pid {instance.pid})" for instance in running)
        raise ConfigError(f"several instances run, choose one with --name: {names}")
    return _found(running[0] if running else None, "no instance is running")


def _find_by_pid_file(runtime_dir: str, pid_file: str) -> Instance:
    instance = _found(_at(pid_file, label=pid_file), f"no instance holds the pid file {pid_file}")
    if os.path.exists(instance.socket):
        return instance
    for other in scan(runtime_dir):
        if other.pid == instance.pid:
            return other
    return instance


def _found(instance: Instance | None, otherwise: str) -> Instance:
    if instance is None:
        raise NotRunning(otherwise)
    return instance
