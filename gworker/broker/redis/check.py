"""What the servers of a URL are, and whether they are fit: for `gworker check`."""

from __future__ import annotations

import time

from gworker.broker.interface import CALL_SECONDS, Reply
from gworker.broker.redis.operations import COMMON, Names
from gworker.broker.redis.partitions import PARTITIONS
from gworker.broker.redis.topology import Servers, check_fit, facts_of
from gworker.broker.url import BrokerUrl
from gworker.errors import BrokerDown, BrokerError


def examine(url: BrokerUrl, cluster_name: str) -> str:
    """Ask the servers of a URL, and change nothing. What they are, in words.

    Raises BrokerError if they cannot be reached or are not fit.
    """
    try:
        return _examine(url, cluster_name)
    except BrokerDown as error:
        raise BrokerError(str(error)) from None


def _examine(url: BrokerUrl, cluster_name: str) -> str:
    servers = Servers(url, f"gworker-{cluster_name}-check")
    topology = servers.resolve(time.monotonic() + 2 * CALL_SECONDS)
    kinds = set()
    for address in topology.masters:
        with servers.ask(address) as ask:
            facts = facts_of(ask("INFO", "server"))
            check_fit(address, facts, url.kind == "cluster")
            if "valkey_version" in facts:
                kinds.add(f"Valkey {facts['valkey_version']}")
            else:
                kinds.add(f"Redis {facts['redis_version']}")
            if address == topology.owners[COMMON]:
                key = Names(cluster_name).conf
                found = ask("HGET", key, "partitions")
                if found not in (None, b"%d" % PARTITIONS):
                    raise partition_mismatch(found)
    missing = topology.owners.count(None)
    if missing:
        raise BrokerDown(f"{missing} of {PARTITIONS} partitions have no master")
    masters = len(topology.masters)
    return f"{' and '.join(sorted(kinds))}, {masters} master{'s' if masters > 1 else ''}"


def partition_mismatch(found: Reply) -> BrokerError:
    number = found.decode("ascii", "replace") if isinstance(found, bytes) else found
    return BrokerError(
        f"this cluster has {number} partitions, and this gworker {PARTITIONS}: all "
        "machines need the same version"
    )
