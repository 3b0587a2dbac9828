"""Gaps: that groups may have missed messages."""

from __future__ import annotations

import time
from collections.abc import Sequence

from gworker.broker.interface import Broker
from gworker.messages.host import Host


class Gaps:
    """Those of one process, which its on_gap is told. count: of all groups together."""

    def __init__(self, broker: Broker, host: Host) -> None:
        self.count = 0
        self._broker = broker
        self._host = host
        self._open: dict[str, float] = {}  # groups, and since when; until the broker is up

    def report(self, groups: Sequence[str], since: float, until: float = 0.0) -> None:
        """Messages since then may be missing, in seconds since the epoch; until 0: until now, or
        until the broker is up."""
        self.count += len(groups)
        if not until and self._broker.state == "down":
            self._open.update((each, self._open.get(each, since)) for each in groups)
        else:
            self._host.notify("on_gap", list(groups), since, until or time.time())

    def close(self) -> None:
        """The broker is up."""
        gaps, self._open = self._open, {}
        if gaps:
            self._host.notify("on_gap", list(gaps), min(gaps.values()), time.time())
