"""Which instances run, as their runtime files show it: how a command finds the one that it is for.

Everything here only looks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from gworker.errors import ConfigError, GworkerError
from gworker.pidfile import holder
from gworker.runtime import believed, pid_path, socket_path


class NotRunning(GworkerError):
    """No instance of that description runs."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A running instance as its files show it. `socket` may be missing while it starts."""

    label: str  # the name or pid file by which it was found, else its slug, which is accepted as a name
    pid: int
    socket: str  # empty: it has none


def scan(directories: Iterable[str]) -> list[Instance]:
    """All instances that run with one of these runtime directories, sorted by label."""
    found = [instance for directory in believed(directories) for instance in _in_directory(directory)]
    # A pid file of --pid may lie in the same directory: there is no socket beside it.
    found.sort(key=lambda instance: not os.path.exists(instance.socket))
    unique = {instance.pid: instance for instance in reversed(found)}
    return sorted(unique.values(), key=lambda instance: instance.label)


def _in_directory(directory: str) -> list[Instance]:
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".pid"))
    except OSError:
        return []
    return [instance for name in names if (instance := _at(os.path.join(directory, name)))]


def _at(pid_file: str, label: str = "") -> Instance | None:
    pid = holder(pid_file)
    if pid is None:
        return None
    return Instance(label or os.path.basename(pid_file).removesuffix(".pid"), pid, socket_path(pid_file))


def find(directories: Iterable[str], name: str | None = None, pid_file: str | None = None) -> Instance:
    """The instance with this pid file, else with this name, else the only one.

    Raises NotRunning, or ConfigError if there are several to choose from.
    """
    if pid_file is not None:
        return _find_by_pid_file(pid_file)
    if name is not None:
        at = (_at(pid_path(directory, name), label=name) for directory in believed(directories))
        return _found(next(filter(None, at), None), f"{name} is not running")
    running = scan(directories)
    if len(running) > 1:
        names = ", ".join(f"{instance.label} (pid {instance.pid})" for instance in running)
        raise ConfigError(f"several instances run, choose one with --name: {names}")
    return _found(running[0] if running else None, "no instance is running")


def _find_by_pid_file(pid_file: str) -> Instance:
    """The pid file of --pid may be anywhere: it is the arbiter that tells where its control socket is."""
    pid = holder(pid_file)
    if pid is None:
        raise NotRunning(f"no instance holds the pid file {pid_file}")
    return Instance(pid_file, pid, control_socket(pid))


def control_socket(pid: int) -> str:
    """Where the arbiter with this pid has its control socket: control.py holds a descriptor of that file, and of no
    other socket's file. Empty if it has none. Raises ConfigError for another user's arbiter.
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


def _found(instance: Instance | None, otherwise: str) -> Instance:
    if instance is None:
        raise NotRunning(otherwise)
    return instance
