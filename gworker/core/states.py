"""The message path's part of the core in plain Python: the attributes that it reads and changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Send = TypeVar("Send", bound=Callable[..., bool])
_Connection = TypeVar("_Connection")


class ServerState:
    """The attributes of a ServerContext that the message path reads and changes."""

    requests: int
    bytes_read: int
    bytes_written: int
    batch: int
    takes_no_more: bool
    holder: Any
    on_job_end: Any
    message_interceptor: Any


class TransportState:
    """The attributes of a Transport."""

    __slots__ = (
        "_owner", "_read_size", "_server", "_socket", "bytes_read", "bytes_written",
        "eof_received", "max_send_buffer_size", "pause_reasons", "receive_buffer", "remote",
        "write_buffer",
    )  # fmt: skip


class ConnectionState:
    """The attributes of a Connection that the message path reads and changes."""

    __slots__ = (
        "__weakref__", "accepted_at", "callbacks", "event_job", "id", "io", "lifecycle",
        "observer", "parser_paused", "protocol_machine", "server_context",
    )  # fmt: skip


class JobState:
    """The attributes of a Job."""

    __slots__ = ("connection", "events", "greenlet", "unread_bytes")


def accelerate(**_classes: Any) -> None:
    """Tell the compiled core which classes it knows. This one has no short ways."""


def register_framing(_name: str, _protocol: type, **_details: object) -> None:
    """Tell the compiled core that this class frames its messages as `_name` says."""


def accelerated_send(send: Send) -> Send:
    """Return `Connection.send`, which leaves what is not simple to `send`."""
    return send


def send_to_all(
    connections: Sequence[_Connection], _message: object
) -> tuple[int, Sequence[_Connection]]:
    """Send a message, which answers nothing, where that is simple: to how many, and those that are
    left to the caller. The connections of neither are gone."""
    return 0, connections
