"""Leaves that are due: the broker publishes them when one of the processes asks it to.

A leave that is out is no longer due: one that a process publishes itself would be lost with it.
"""

from __future__ import annotations

from typing import Final

from gworker.broker.interface import Broker
from gworker.messages.control import presence_order
from gworker.messages.frame import canonical, order_body
from gworker.messages.queries import Member

# An order is its head, members with commas between, and its tail.
_ORDER: Final = order_body(presence_order([], []))
_END: Final = _ORDER.rindex(b"]")
HEAD, SEPARATOR, TAIL = _ORDER[:_END], b",", _ORDER[_END:]


def leave_of(member: Member) -> bytes:
    """What the broker publishes of it."""
    return canonical(member)


def publish_due_leaves(broker: Broker) -> None:
    """Raises BrokerDown, BrokerError."""
    broker.call("publish_due_leaves", b"", HEAD, SEPARATOR, TAIL)
