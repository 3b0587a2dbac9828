"""Which instances run, as their runtime files show it: how a command finds the one that it is for.

It only reads, and what it reads may be under /tmp. A pid file is believed only if none but root and
the user of the command can have written it, and the process that it names is a gworker master of
its owner: else a command would signal any process that another user has put there (as in
CVE-2018-16888).
"""

from __future__ import annotations

import glob
import os
import stat
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from gworker.config.file_names import slug
from gworker.config.runtime_dirs import believed
from gworker.errors import ConfigError, GworkerError
from gworker.master.runtime_files import pid_path, socket_path
from gworker.system.pid_file import claim

TITLE = "gworker: master "  # how the title of every arbiter begins


# How often, and every how many seconds, an empty command line is read again: for an instant of its
# exec(2) a process has none, and an arbiter that is upgraded is an arbiter all the same.
EXEC_STEPS, EXEC_STEP = 20, 0.01


class NotRunning(GworkerError):
    """No instance of that description runs."""


class Doubtful(NotRunning):
    """There is a pid file that is held, but it is not believed."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A running instance as its files show it. socket: empty while it has none."""

    label: str  # its name as the user has spelt it, else how it was found
    pid: int
    socket: str

    def __str__(self) -> str:
        return f"{self.label} (pid {self.pid})"


def scan(directories: Iterable[str]) -> list[Instance]:
    """All instances that run with one of these runtime directories, sorted by label."""
    found = []
    for directory in believed(directories):
        for pid_file in sorted(glob.glob(os.path.join(glob.escape(directory), "*.pid"))):
            with suppress(Doubtful):
                if (instance := _at(pid_file)) is not None:
                    found.append(instance)
    # A pid file of --pid may lie in the same directory: there is no socket beside it.
    found.sort(key=lambda instance: not os.path.exists(instance.socket))
    unique = {instance.pid: instance for instance in reversed(found)}
    return sorted(unique.values(), key=lambda instance: instance.label)


def _at(pid_file: str, label: str = "") -> Instance | None:
    pid = master(pid_file)
    if pid is None:
        return None
    stem = os.path.basename(pid_file).removesuffix(".pid")
    name = name_of(pid)
    return Instance(label or (name if slug(name) == stem else stem), pid, socket_path(pid_file))


def find(
    directories: Iterable[str], name: str | None = None, pid_file: str | None = None
) -> Instance:
    """The instance with this pid file, else with this name, else the only one.

    Raises NotRunning, or ConfigError if there are several to choose from.
    """
    if pid_file is not None:
        # It may be anywhere: the arbiter's descriptors show its control socket.
        pid = master(pid_file)
        if pid is None:
            raise NotRunning(f"no instance holds the pid file {pid_file}")
        return Instance(name_of(pid) or pid_file, pid, control_socket(pid))
    if name is None:
        running = scan(directories)
        if len(running) > 1:
            names = ", ".join(map(str, running))
            raise ConfigError(f"several instances run, choose one with --name: {names}")
        if not running:
            raise NotRunning("no instance is running")
        return running[0]
    doubts = []
    for directory in believed(directories):
        try:
            if (instance := _at(pid_path(directory, name), label=name)) is not None:
                return instance
        except Doubtful as doubt:
            doubts.append(str(doubt))
    raise NotRunning("; ".join([f"{name} is not running", *doubts]))


def master(pid_file: str) -> int | None:
    """The pid of the arbiter that holds `pid_file`; None if none does. Raises Doubtful."""
    found = claim(pid_file)
    if found is None:
        return None
    if doubt := _doubt_of_file(found.file) or _doubt_of_process(found.pid, found.file.st_uid):
        raise Doubtful(f"the pid file {pid_file} is not believed: {doubt}")
    return found.pid


def _doubt_of_file(file: os.stat_result) -> str:
    # Why another user may have written it.
    if file.st_uid not in (0, os.geteuid()):
        return (
            f"it belongs to user {file.st_uid}, neither to root nor to you; only that user "
            "can command the instance"
        )
    return "others may write it" if file.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else ""


def _doubt_of_process(pid: int, owner: int) -> str:
    # Why process `pid` cannot be an arbiter of `owner`.
    try:
        with open(f"/proc/{pid}/status") as status:
            uid = next(int(line.split()[1]) for line in status if line.startswith("Uid:"))
        if uid != owner:
            return f"process {pid} is not its owner's"
        return "" if is_master(_command(pid)) else f"process {pid} is no gworker master"
    except OSError:
        return f"there is no process {pid}"


def _command(pid: int) -> list[str]:
    # Or its title as the only word.
    for _ in range(EXEC_STEPS):
        with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
            if words := cmdline.read().decode(errors="replace").rstrip("\0"):
                return words.split("\0")
        time.sleep(EXEC_STEP)
    return [""]


def name_of(pid: int) -> str:
    """The name in the title of an arbiter; empty while it has no title, or if that is cut off."""
    try:
        title = _command(pid)[0]
    except OSError:
        return ""
    whole = title.startswith(TITLE + "[") and title.endswith("]")
    return title[len(TITLE) + 1 : -1] if whole else ""


def is_master(command: Sequence[str]) -> bool:
    """True for the title of an arbiter, and for the command line that it has for a moment while it
    is upgraded."""
    if command[0].startswith(TITLE):
        return True
    program = next((word for word in command[1:] if not word.startswith("-")), "")
    runs_gworker = os.path.basename(program) == "gworker" or ("-m", "gworker") in pairwise(command)
    return runs_gworker and os.path.basename(command[0]).startswith(("python", "pypy"))


def control_socket(pid: int) -> str:
    """Where the arbiter with this pid has its control socket; empty if it has none.

    The control server holds a descriptor of that file, and nothing else holds one of a file with
    such a name. Raises ConfigError for another user's arbiter.
    """
    descriptors = f"/proc/{pid}/fd"
    try:
        for number in os.listdir(descriptors):
            with suppress(FileNotFoundError):  # closed meanwhile
                path = os.readlink(f"{descriptors}/{number}")
                if path.startswith("/") and path.endswith(".sock"):
                    return path
    except FileNotFoundError:
        pass
    except PermissionError:
        raise ConfigError(f"the instance with pid {pid} belongs to another user") from None
    return ""
