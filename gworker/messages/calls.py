"""The calls that need a broker, and little of the process that makes them."""

from __future__ import annotations

from gworker.messages.publishing import Publishing
from gworker.messages.queries import Queries
from gworker.messages.remote_control import RemoteControl


class Calls(Publishing, RemoteControl, Queries):
    """Those of one process."""
