"""What a worker process is told: its slot when it is forked, and the reason when it has to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from gworker.ipc.connection_ids import ConnectionIds
from gworker.ipc.scoreboard import Scoreboard


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which slot a process fills, and what it inherits for that."""

    worker: str
    id: int
    generation: int
    listeners: tuple[int, ...]  # the descriptors of the bound sockets that it serves
    scoreboard: Scoreboard  # in which it finds the other processes that serve the same listener
    ids: ConnectionIds
    count: int  # how many processes its Worker has
    is_start: bool = False  # the instance starts: what the process needs has to be there
    instance: str = ""  # the name of the instance among all machines
    broker: str = ""  # the path of the local broker's socket; "": there is none
    user: str | None = None
    group: str | None = None  # as its Worker says; None: as the settings say
    files: Sequence[str] = ()  # certificates and keys: read before the process becomes `user`

    def order(self) -> dict[str, Any]:
        """What a mold is told, as JSON: all but what it has inherited, and the descriptors."""
        own = [each.name for each in fields(self) if each.name not in INHERITED]
        return {name: getattr(self, name) for name in own}


# The fields of an Assignment that are no JSON.
INHERITED = {"listeners", "scoreboard", "ids"}


GOING_AWAY, SERVICE_RESTART = 1001, 1012  # close codes (RFC 6455, 7.4.1, and the IANA registry)


@dataclass(frozen=True, slots=True)
class Why:
    # The close code for peers whose protocol has one. SERVICE_RESTART: come back, but not all at
    # once.
    code: int
    drain: bool  # no other process serves its listener: it takes what still waits in the queue
    reload: bool = False  # there is a successor: on_worker_reload is called


STOP = Why(GOING_AWAY, drain=True)  # the instance stops, or its Worker is not declared any more
REPLACED = Why(SERVICE_RESTART, drain=False, reload=True)
MOVED = Why(SERVICE_RESTART, drain=True, reload=True)  # its successor listens somewhere else
REMOVED = Why(SERVICE_RESTART, drain=False)  # one process fewer; the others serve the same listener
# One process fewer, and its own listener (reuse_port) goes with it.
REMOVED_WITH_LISTENER = Why(SERVICE_RESTART, drain=True)
