"""Rooms, written as any user would write them: a client joins groups and publishes to them.

BENCH_PORT=9601 gworker benchmarks/rooms_app.py:rooms

What clients say and hear stands in rooms.c. BENCH_MODE is that of the groups;
BENCH_PRESENCE=1 makes joins and leaves events, BENCH_FATES=1 tells publishers what became of
their messages.
"""

import os
from typing import Any

from gworker import Worker, messages
from gworker.errors import BrokerDown

ADDRESS = f"websocket://127.0.0.1:{os.environ.get('BENCH_PORT', '9601')}"
OTHER = f"websocket://127.0.0.1:{os.environ.get('BENCH_OTHER_PORT', '9602')}"
TELLS_FATES = os.environ.get("BENCH_FATES") == "1"

messages.declare(
    "room-*",
    mode=os.environ.get("BENCH_MODE", "fleeting"),
    presence=os.environ.get("BENCH_PRESENCE") == "1",
)

rooms = Worker(ADDRESS, name="rooms", handover=True, backlog=4096)
publishers = Worker(OTHER, name="publishers", backlog=4096)
apart = [rooms, publishers]
"""Members in one process, publishers in another."""

crowd = Worker(ADDRESS, name="crowd", backlog=4096)
"""One process without a broker."""


@rooms.on_message
@publishers.on_message
def heard(connection: Any, text: str) -> None:
    what, number, *_ = text.split(" ", 2)
    group = f"room-{number}"
    if what == "#j":
        connection.join(group)
        connection.send(f"#J {number}")
    elif TELLS_FATES:
        publish_and_tell(connection, group, text)
    else:
        messages.publish(group, text)


def publish_and_tell(connection: Any, group: str, text: str) -> None:
    _, *names = text.split(" ", 3)[:3]
    try:
        messages.publish(group, text)
    except BrokerDown:
        connection.send(f"#n {' '.join(names)}")
    else:
        connection.send(f"#o {' '.join(names)}")


@rooms.on_gap
def tell_members(groups: list[str], since: float, until: float) -> None:
    """Some messages may be missing."""
    affected = set(groups)
    for connection in list(rooms.connections.values()):
        for group in affected & set(connection.groups):
            connection.send(f"#g {group.removeprefix('room-')}")


@rooms.on_presence
def tell_presence(group: str, joined: Any, left: Any, connections_here: Any) -> None:
    for connection in connections_here:
        connection.send(f"#e {group.removeprefix('room-')}")


@crowd.on_message
def broadcast(connection: Any, text: str) -> None:
    if text.startswith("#j"):
        connection.send(f"#J {text.split()[1]}")
    else:
        crowd.broadcast(text)
