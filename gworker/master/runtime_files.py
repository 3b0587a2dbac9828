"""Where an instance's files are, and which instances run.

An instance NAME owns `<runtime_dir>/<slug>.pid` (locked, see system/pid_file.py) and
`<runtime_dir>/<slug>.sock`, the control socket, and `<slug>.broker`, the socket of the local
broker. With --pid FILE it also owns a second pid file there.

`RuntimeFiles` is the arbiter's side; instances.py is the commands' side. Both are given the
directories where the files may be: the arbiter takes the first that can be used, commands look into
each.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from gworker.config import file_names
from gworker.config.file_names import slug
from gworker.config.options import default_runtime_dirs
from gworker.config.runtime_dirs import believed
from gworker.errors import ConfigError
from gworker.master.control_server import ControlServer
from gworker.system.pid_file import PidFile, holder

log = logging.getLogger("gworker")

CHECK_SECONDS = 60.0


class UnusableDirectoryError(ConfigError):
    """The runtime directory cannot be made, written or trusted."""


def pid_path(runtime_dir: str, name: str) -> str:
    return os.path.join(runtime_dir, slug(name) + ".pid")


def socket_path(pid_file: str) -> str:
    """The control socket beside a pid file in a runtime directory."""
    return pid_file.removesuffix(".pid") + ".sock"


class RuntimeFiles:
    """The files of the instance that this process is the arbiter of. `mask`: what --umask takes
    from their modes."""

    def __init__(
        self, directories: Sequence[str], name: str, pid_file: str | None = None, mask: int = 0
    ) -> None:
        self.name = name
        self._mask = mask
        self._directories = directories
        self._further = pid_file
        # Those held: first the one in the runtime directory, then the one of --pid.
        self._pid_files: list[PidFile] = []

    @property
    def socket_path(self) -> str | None:
        """Where the control socket is to be; None: no file is held, and there shall be no
        socket."""
        return socket_path(self._pid_files[0].path) if self._pid_files else None

    @property
    def broker_path(self) -> str | None:
        """Where the socket of the local broker is to be; None as above."""
        if not self._pid_files:
            return None
        return file_names.broker_path(os.path.dirname(self._pid_files[0].path), self.name)

    def acquire(self) -> None:
        """Take the pid files, in the first directory that can be used. Raises ConfigError; then
        nothing is held."""
        for directory in believed(self._directories):
            if (pid := holder(pid_path(directory, self.name))) is not None:
                raise ConfigError(
                    f"{self.name} is already running (pid {pid}); give a second one a --name"
                )
        self._acquire_first()
        try:
            self._acquire_further()
        except BaseException:
            self.release()
            raise

    def _acquire_first(self) -> None:
        directory = usable(self._directories)
        self._pid_files[:1] = [self._acquired(pid_path(directory, self.name))]

    def _acquire_further(self) -> None:
        if self._further is not None and os.path.realpath(self._further) != os.path.realpath(
            self._pid_files[0].path
        ):
            self._pid_files[1:] = [self._acquired(self._further)]

    def _acquired(self, path: str) -> PidFile:
        pid_file = PidFile(path, self._mask)
        pid_file.acquire()
        return pid_file

    def restore(self, place: int = 0) -> str | None:
        """Make a pid file anew if it is gone; return its path. Raises ConfigError.

        place: 0 for the one in the runtime directory, 1 for the one of --pid.
        """
        held = self._pid_files[place : place + 1]
        if not held or held[0].is_in_place:
            return None
        (self._acquire_first, self._acquire_further)[place]()
        held[0].close_in_child()
        return self._pid_files[place].path

    def kept(self) -> list[tuple[str, int]]:
        """The pid files and their locked descriptors, which keep the locks through an exec."""
        return [(pid_file.path, pid_file.fileno()) for pid_file in self._pid_files]

    def adopt(self, kept: Iterable[tuple[str, int]]) -> None:
        """Own what this process has locked before an exec."""
        for path, descriptor in kept:
            self._pid_files.append(PidFile(path))
            self._pid_files[-1].adopt(descriptor)

    def release(self) -> None:
        """Remove what is ours and unlock. The control socket is not among it: its server removes
        it."""
        for pid_file in reversed(self._pid_files):
            pid_file.release()

    def close_in_child(self) -> None:
        """Let go of the locks in a forked process, without unlocking them for the arbiter."""
        for pid_file in self._pid_files:
            pid_file.close_in_child()


class Restorable(Protocol):
    """What has a socket with a file."""

    def restore(self, path: str | None) -> str | None:
        """Make it anew at `path` if it is gone; return its path then. Raises ConfigError."""


class RuntimeCheck:
    """Looks once a minute whether the runtime files are still there, and makes the missing anew.

    Something has cleaned up /tmp, or logind has removed the user's directory at the end of a
    session: without its files the instance would serve on and no command could reach it.
    """

    def __init__(
        self,
        files: RuntimeFiles,
        control: ControlServer,
        broker: Restorable,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._control = control
        self._broker = broker
        self._next = clock() + CHECK_SECONDS
        self._errors: list[str] = []  # why the last attempt failed; it is logged once

    def tick(self, now: float) -> None:
        if now < self._next:
            return
        self._next = now + CHECK_SECONDS
        errors = []
        table: tuple[tuple[str, Callable[[], str | None]], ...] = (
            ("pid file", self._files.restore),
            ("control socket", lambda: self._control.restore(self._files.socket_path)),
            ("socket of the broker", lambda: self._broker.restore(self._files.broker_path)),
            ("pid file", lambda: self._files.restore(1)),
        )
        for what, restore in table:
            try:
                path = restore()
            except ConfigError as error:  # the others may be possible all the same
                errors.append(str(error))
            else:
                if path is not None:
                    log.warning("the %s was gone; there is a new one at %s", what, path)
        if errors and errors != self._errors:
            log.error(
                "runtime files are gone and cannot be made anew: %s",
                "; ".join(dict.fromkeys(errors)),
            )
        self._errors = errors

    def next_deadline(self) -> float:
        return self._next


def usable(directories: Iterable[str]) -> str:
    """The first of `directories` that can be used; it is made if need be. Raises
    UnusableDirectoryError."""
    refused: UnusableDirectoryError | None = None
    for directory in directories:
        try:
            prepare(directory)
        except UnusableDirectoryError as error:
            refused = refused or error
        else:
            return directory
    raise refused or UnusableDirectoryError(
        "there is no runtime directory; choose one with --runtime-dir"
    )


def prepare(runtime_dir: str) -> None:
    """Make the runtime directory, 0700, if it is missing. Raises UnusableDirectoryError."""
    advice = "choose another with --runtime-dir"
    try:
        os.makedirs(runtime_dir, mode=0o700, exist_ok=True)
        found = os.lstat(runtime_dir)
    except OSError as error:
        reason = f"cannot make the runtime directory {runtime_dir}: {error.strerror}"
        raise UnusableDirectoryError(f"{reason}; {advice}") from None
    # A default directory may be under /tmp, where another user can make it first.
    if runtime_dir in default_runtime_dirs() and (
        not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022
    ):
        raise UnusableDirectoryError(
            f"the runtime directory {runtime_dir} must be a directory of yours that no other user "
            "can write; remove it or choose another with --runtime-dir"
        )
    if not os.access(runtime_dir, os.W_OK | os.X_OK):
        raise UnusableDirectoryError(
            f"the runtime directory {runtime_dir} is not writable; {advice}"
        )
