"""Incidents after which messages may be missing, and the channels that have to catch up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from gworker.broker.interface import Broker
from gworker.errors import BrokerDown
from gworker.messages.background import in_background
from gworker.messages.channels import Channel
from gworker.messages.gaps import Gaps
from gworker.messages.host import Host
from gworker.messages.recovery.single_flight import MOST_READS

log = logging.getLogger("gworker")

# Seconds until a history that could not be read is asked for again.
AGAIN_SECONDS: Final = 0.2


class Incident:
    """Messages may have been lost between two moments, in seconds since the epoch; until 0: it is
    not over.

    groups: those of which it is known. pending: channels whose history is still to be read.
    """

    def __init__(self, since: float, until: float = 0.0) -> None:
        self.since = since
        self.until = until
        self.groups: list[str] = []
        self.pending: set[Channel] = set()


class CatchUpQueue:
    """The channels that have to catch up, and the threads that see to it.

    catch_up: gets a channel to where the broker is; the second argument says whether messages may
    have been lost. It returns False if some were, and raises BrokerDown.
    """

    def __init__(
        self, broker: Broker, host: Host, gaps: Gaps, catch_up: Callable[[Channel, bool], bool]
    ) -> None:
        self._broker = broker
        self._host = host
        self._gaps = gaps
        self._catch_up = catch_up
        # With what is reported if the history has not all of it.
        self._due: dict[Channel, Incident | None] = {}
        self._busy: set[Channel] = set()
        self._threads = 0

    def add(self, channels: Iterable[Channel], incident: Incident | None = None) -> None:
        """One that is due already is reported with the later incident."""
        for channel in channels:
            self._add(channel, incident)
        if self._broker.state == "down":
            return
        wanted = min(MOST_READS, len(self._due) + len(self._busy))
        for _ in range(wanted - self._threads):  # those that start may end meanwhile
            self._threads += 1
            in_background(self._work)

    def _add(self, channel: Channel, incident: Incident | None) -> None:
        before = self._due.get(channel)
        if incident is None:
            incident = before
        elif before is not None and before is not incident:
            incident.since = min(incident.since, before.since)
            before.pending.discard(channel)
            self.report(before)
        if incident is not None:
            incident.pending.add(channel)
        self._due[channel] = incident

    def went_down(self) -> None:
        """The broker is down: what is known is reported now."""
        for incident in {each for each in self._due.values() if each is not None}:
            self._report_groups(incident)

    def report(self, incident: Incident) -> None:
        """Report the gaps that are known, unless a channel is pending."""
        if not incident.pending:
            self._report_groups(incident)

    def _report_groups(self, incident: Incident) -> None:
        groups, incident.groups = incident.groups, []
        if groups:
            self._gaps.report(groups, incident.since, incident.until)

    def _work(self) -> None:
        try:
            while not self._host.has_ended:
                channel = next((each for each in self._due if each not in self._busy), None)
                if channel is None or self._broker.state == "down":
                    return
                incident = self._due.pop(channel)
                self._busy.add(channel)
                try:
                    is_done = self._try(channel, incident)
                finally:
                    self._busy.discard(channel)
                if not is_done:
                    time.sleep(AGAIN_SECONDS)
        finally:
            self._threads -= 1

    def _try(self, channel: Channel, incident: Incident | None) -> bool:
        # False: once more.
        try:
            is_whole = self._catch_up(channel, incident is not None)
        except BrokerDown:
            self._put_back(channel, incident)
            return False
        except Exception:
            log.exception("what the group %r missed could not be found", channel.text)
            channel.held, is_whole = None, False
        if incident is not None:
            # Once it is due for another incident, that one is reported.
            if not is_whole and channel.is_needed:
                incident.groups.append(channel.text)
            if self._due.get(channel) is not incident:
                incident.pending.discard(channel)
            self.report(incident)
        return True

    def _put_back(self, channel: Channel, incident: Incident | None) -> None:
        # Once more, with what has happened meanwhile.
        later = self._due.get(channel)
        if later is None:
            self._due[channel] = incident
        elif incident is not None and later is not incident:
            later.since = min(later.since, incident.since)
            incident.pending.discard(channel)
            self.report(incident)
