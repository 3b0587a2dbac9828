"""What may be sent: checks of messages, and messages that wait until their connection has moved."""

from __future__ import annotations

from typing import Any

from gworker.connection.dispatcher import AnyConnection
from gworker.connection.migration import Migration
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


def check_payload(machine: Protocol, payload: Any) -> None:
    """Raise TypeError for what a user's protocol has encoded wrongly."""
    if not isinstance(payload, bytes | bytearray | memoryview):
        name = type(machine).__qualname__
        raise TypeError(f"{name}.encode() must return bytes, not {type(payload).__name__}")


def defer_send(connection: AnyConnection, migration: Migration, data: Any, raw: bool) -> bool:
    """`send` while it is on its way: the message goes out where the connection goes on, before all
    that is sent there. False: as many bytes wait as may."""
    machine, io = connection.protocol_machine, connection.io
    if 0 < io.buffered + migration.size >= io.max_send_buffer_size:
        return False
    if raw:
        migration.defer("write", raw_bytes(data))
    elif machine.encoding is None and not machine.keeps_alive:
        # to encode it may change the protocol, of which a copy is on its way
        migration.defer("send", data)
    else:
        payload = machine.encode(data)
        check_payload(machine, payload)
        migration.defer("write", bytes(payload))
    return True
