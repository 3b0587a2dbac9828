"""What may be sent as bytes."""

from __future__ import annotations

from typing import Any

from gworker.protocols.base import Protocol


def raw_bytes(data: Any) -> bytes:
    """What `send(data, raw=True)` sends: any other type is a TypeError, as bytes(5) would be five
    zeros."""
    if type(data) is bytes:
        return data
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    name = type(data).__name__
    raise TypeError(
        f"send(..., raw=True) takes bytes, not {name}: it is past the protocol, so nothing "
        "encodes it"
    )


def check_payload(machine: Protocol, payload: Any) -> Any:
    """Return `payload`. Raises TypeError for what a user's protocol has encoded wrongly."""
    if not isinstance(payload, bytes | bytearray | memoryview):
        name = type(machine).__qualname__
        raise TypeError(f"{name}.encode() must return bytes, not {type(payload).__name__}")
    return payload
