"""Which processes hold an address that cannot be bound, as far as this user may see them."""

from __future__ import annotations

import os
from contextlib import suppress

from gworker.system import child_processes
from gworker.system.address import Address

MOST = 3  # processes that are named


def named(address: Address, pid: int = 0) -> str:
    """`: 4711 (nginx: master process)`, for each program that holds `address`; "" if unknown.

    pid: of one that is known to hold it.
    """
    pids = {pid} if pid else {_first(*each) for each in _holding(address)}
    return ": " + ", ".join(map(child_processes.describe, sorted(pids)[:MOST])) if pids else ""


def _holding(address: Address) -> set[tuple[int, int]]:
    # Pid and descriptor of each process that listens there, else of each with a connection from
    # there, which takes a port, too.
    import psutil  # not needed for a start that succeeds

    try:
        found = [
            each
            for each in psutil.net_connections(address.transport)
            if each.pid and _is_at(each.laddr, address)
        ]
    except (psutil.Error, OSError):
        return set()
    listening = [each for each in found if each.status == psutil.CONN_LISTEN]
    return {(each.pid, each.fd) for each in listening or found if each.pid}


def _is_at(local: object, address: Address) -> bool:
    return local == address.path or (isinstance(local, tuple) and local[1:] == (address.port,))


def _first(pid: int, descriptor: int) -> int:
    # A process has inherited the socket if its parent holds it as well.
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
