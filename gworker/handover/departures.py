"""What a process says to the broker for a successor: which channels its connections hear."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from gworker.connection.context import ServerContext
from gworker.handover.link import Link

if TYPE_CHECKING:
    from gworker.messages.handover.departure import Departure


class Departures:
    """The `Departure` of each link. on_progress: called when a wait of one is over."""

    def __init__(self, service: ServerContext, on_progress: Callable[[], None]) -> None:
        self._service = service
        self._on_progress = on_progress

    def of(self, link: Link) -> Departure | None:
        """None: there are no messages."""
        messaging = self._service.used_messaging
        if link.departure is None and messaging is not None and messaging.is_ready:
            link.departure = messaging.handover.departure(
                partial(_announce, link), self._on_progress
            )
        return link.departure


def _announce(link: Link, marker: str, names: Sequence[bytes]) -> None:
    memory = os.memfd_create("gworker-channels")
    try:
        os.write(memory, pickle.dumps(names, pickle.HIGHEST_PROTOCOL))
        os.lseek(memory, 0, os.SEEK_SET)
        link.send({"marker": marker}, [memory])
    finally:
        os.close(memory)
