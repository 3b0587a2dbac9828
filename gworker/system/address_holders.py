"""Which process holds an address that cannot be bound, as far as this user may see it.

Asked only when binding has failed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from gworker.system import child_processes
from gworker.system.address import Address

MOST = 3
"""Processes that are named."""


def named(address: Address, pid: int = 0) -> str:
    """`: 4711 (nginx: master process)`, of each program that holds `address` the first process; ""
    if unknown.

    pid: one of them, if that is known.
    """
    pids = {pid} if pid else {_first(*each) for each in _holding(address)}
    return ": " + ", ".join(map(child_processes.told, sorted(pids)[:MOST])) if pids else ""


def _holding(address: Address) -> set[tuple[int, int]]:
    """Pid and descriptor of the processes that listen there.

    Else of those that have a connection from there, which takes a port, too.
    """
    import psutil

    try:
        found = [
            each
            for each in psutil.net_connections(address.transport)
            if each.pid and _is_at(each, address)
        ]
    except (psutil.Error, OSError):
        return set()
    listening = [each for each in found if each.status == psutil.CONN_LISTEN]
    return {(each.pid, each.fd) for each in listening or found if each.pid}


def _is_at(connection: Any, address: Address) -> bool:
    at = connection.laddr
    return bool(at) and (
        at == address.path if address.transport == "unix" else at.port == address.port
    )


def _first(pid: int, descriptor: int) -> int:
    """The one from which process `pid` has inherited the socket; itself if it has opened that."""
    with suppress(OSError):
        socket = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        while (parent := child_processes.parent(pid)) and _holds(parent, socket):
            pid = parent
    return pid


def _holds(pid: int, socket: str) -> bool:
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed since
            if os.readlink(f"/proc/{pid}/fd/{descriptor}") == socket:
                return True
    return False
