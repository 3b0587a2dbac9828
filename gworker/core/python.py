"""The core in plain Python: the names of the compiled one, their types and their meaning.

A function that returns None has not done it: it is left to the caller. Both cores take the same.
"""

from __future__ import annotations

from typing import Final, Literal

from gworker.core.answer import encode_simple
from gworker.core.headers import HeadersCore
from gworker.core.masking import apply_mask
from gworker.core.parameters import parse_cookies, parse_pairs
from gworker.core.poller import Poller
from gworker.core.receive_buffer import ReceiveBuffer
from gworker.core.request import RequestCore, parse_request
from gworker.core.states import (
    ConnectionState,
    JobState,
    ServerState,
    TransportState,
    accelerate,
    accelerated_send,
    register_framing,
    send_to_all,
)
from gworker.core.wsgi import ApplicationCore, ExchangeCore, PreparedAnswer, make_environ

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

IMPLEMENTATION: Final[Literal["compiled", "Python"]] = "Python"
