"""The masters, and the link for commands to each."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection

from gworker.broker.interface import CALL_SECONDS
from gworker.broker.redis.commands import CommandLink
from gworker.broker.redis.partitions import PARTITIONS
from gworker.broker.redis.topology import Address, Servers, Topology, text_of
from gworker.errors import BrokerDown

# Seconds between two looks at the topology, while all is well, and while it is not; and the least.
TOPOLOGY_SECONDS, TOPOLOGY_SOON_SECONDS, TOPOLOGY_LEAST_SECONDS = 10.0, 1.0, 0.1


class Nodes:
    """make: starts the link for commands to a server.

    topology and links are replaced and never changed, so that each thread may read them.
    reason: why a server could not be reached last, in words.
    """

    def __init__(self, servers: Servers, make: Callable[[Address], CommandLink]) -> None:
        self.topology = Topology((None,) * PARTITIONS)
        self.links: dict[Address, CommandLink] = {}
        self.reason = "it has not been connected yet"
        self._servers = servers
        self._make = make
        self._lock = threading.Lock()  # of what changes `links`
        self._is_topology_due = True
        self._looked_at = 0.0  # in monotonic seconds
        self._spread = 1.0  # of the pause, so that not all processes look at once

    def owner_of(self, partition: int) -> CommandLink:
        """The link to the owner of a partition. Raises BrokerDown."""
        owner = self.topology.owners[partition]
        link = self.links.get(owner) if owner is not None else None
        if link is None:
            raise BrokerDown(self.reason)
        return link

    def reach(self, address: Address) -> CommandLink:
        """The link to a server, which is made if there is none."""
        with self._lock:
            link = self.links.get(address)
            if link is None:
                link = self._make(address)
                self.links = {**self.links, address: link}
            return link

    def are_reachable(self, owners: Collection[Address | None]) -> bool:
        """False: waiting for one of these servers is of no use."""
        links = [self.links.get(owner) for owner in owners if owner is not None]
        return len(links) == len(owners) and all(
            link is not None and not link.is_down for link in links
        )

    @property
    def latency(self) -> float:
        """Seconds: the longest of all servers, for the last commands."""
        return max((link.latency for link in self.links.values()), default=0.0)

    # -- the topology

    def look_soon(self) -> None:
        """A command was told that it has changed."""
        self._is_topology_due = True

    def look(self, is_well: bool) -> Topology | None:
        """Ask for the topology, if it is time to. What it is, if that is not `topology`.

        Raises BrokerError if the servers are not fit.
        """
        now = time.monotonic()
        pause = TOPOLOGY_SECONDS if is_well else TOPOLOGY_SOON_SECONDS
        if self._is_topology_due:
            pause = TOPOLOGY_LEAST_SECONDS
        if now < self._looked_at + pause * self._spread:
            return None
        self._is_topology_due = False
        try:
            found = self._servers.resolve(now + CALL_SECONDS)
        except BrokerDown as error:
            self.reason = str(error)
            return None
        finally:
            self._looked_at = time.monotonic()
            self._spread = random.SystemRandom().uniform(1, 1.25)
        return found if found != self.topology else None

    def drop_others(self) -> None:
        """End the links to servers that are no masters. What waits there is sent first."""
        with self._lock:
            masters = self.topology.masters
            gone = [link for address, link in self.links.items() if address not in masters]
            self.links = {
                address: link for address, link in self.links.items() if address in masters
            }
        for link in gone:
            link.close(f"{text_of(link.address)} is no master any more")

    def watch(self) -> None:
        """See whether idle servers are there."""
        for link in self.links.values():
            link.look_if_idle()

    def break_stuck(self) -> None:
        """End what takes too long."""
        for link in self.links.values():
            link.break_if_stuck()

    # -- the end

    def close(self, seconds: float) -> None:
        links = list(self.links.values())
        for link in links:
            link.close("the broker is closed")
        for link in links:
            link.join(seconds)

    def let_go(self) -> None:
        # Without the lock: a thread of the parent may have held it.
        for link in self.links.values():
            link.let_go()
