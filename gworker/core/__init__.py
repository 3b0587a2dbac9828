"""The core: the part of the message path that exists twice, compiled (`_core`) and in Python.

It owns the choice between the two, which have the same names with the same meaning: the compiled
one where it was built, unless GWORKER_PURE is set in the environment. It takes what is simple and
frequent, and leaves all else to its callers. It must not know connections, gevent, clocks or logs;
the arbiter loads it, too, to name it.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

__all__ = [
    "IMPLEMENTATION",
    "ApplicationCore",
    "ConnectionState",
    "ExchangeCore",
    "HeadersCore",
    "JobState",
    "Poller",
    "PreparedAnswer",
    "ReceiveBuffer",
    "RequestCore",
    "ServerState",
    "TransportState",
    "accelerate",
    "accelerated_send",
    "apply_mask",
    "encode_simple",
    "make_environ",
    "parse_cookies",
    "parse_pairs",
    "parse_request",
    "register_framing",
    "send_to_all",
]

# One that was built and does not load is an error: it would pass for slowness.
if (
    TYPE_CHECKING
    or os.environ.get("GWORKER_PURE", "0") not in ("", "0")
    or find_spec("gworker.core._core") is None
):
    from gworker.core import python as implementation
else:
    from gworker.core import _core as implementation

IMPLEMENTATION = implementation.IMPLEMENTATION
ApplicationCore = implementation.ApplicationCore
ConnectionState = implementation.ConnectionState
ExchangeCore = implementation.ExchangeCore
HeadersCore = implementation.HeadersCore
JobState = implementation.JobState
Poller = implementation.Poller
PreparedAnswer = implementation.PreparedAnswer
ReceiveBuffer = implementation.ReceiveBuffer
RequestCore = implementation.RequestCore
ServerState = implementation.ServerState
TransportState = implementation.TransportState
accelerate = implementation.accelerate
accelerated_send = implementation.accelerated_send
apply_mask = implementation.apply_mask
encode_simple = implementation.encode_simple
make_environ = implementation.make_environ
parse_cookies = implementation.parse_cookies
parse_pairs = implementation.parse_pairs
parse_request = implementation.parse_request
register_framing = implementation.register_framing
send_to_all = implementation.send_to_all
