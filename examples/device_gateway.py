"""A gateway for devices: a binary framing of your own, a register by device id, a heartbeat.

    gworker examples/device_gateway.py

A package is magic A5 5A, 2 bytes of length, 1 byte of type, a body, 1 byte of checksum. A device
says who it is (type 1), then sends readings (2) or beats (3); a device that is silent for too long
is dropped. A package of type 4 commands another device: its id, a zero byte, the order.

Try it with `printf '\\xa5\\x5a\\0\\6\\1pump1\\xf4\\xa5\\x5a\\0\\1\\3\\3' | nc -q1 127.0.0.1 2004 |
xxd`.
"""

import os
from time import monotonic

from gworker import Connection, PackageProtocol, ProtocolError, Timer, Worker

MAGIC = b"\xa5\x5a"
HELLO, READING, BEAT, COMMAND = 1, 2, 3, 4
SILENCE = float(os.environ.get("SILENCE", "60"))  # seconds

Package = tuple[int, bytes]


class DeviceProtocol(PackageProtocol):
    """Where a package ends, and what it means. A ProtocolError ends the connection."""

    def package_length(self, buffer: bytes) -> int | None:
        """Refuse garbage by its first bytes; wait for the header; then it is known."""
        if not MAGIC.startswith(buffer[:2]):
            raise ProtocolError(f"a package begins with a5 5a, not {buffer[:2].hex(' ')}")
        return 4 + int.from_bytes(buffer[2:4]) + 1 if len(buffer) >= 4 else None

    def decode(self, package: bytes) -> Package:
        """Type and body, if they arrived unharmed."""
        payload = package[4:-1]
        if not payload or sum(payload) & 0xFF != package[-1]:
            raise ProtocolError("wrong checksum", reply=self.encode((COMMAND, b"checksum")))
        return payload[0], payload[1:]

    def encode(self, message: Package) -> bytes:
        payload = bytes([message[0]]) + message[1]
        return MAGIC + len(payload).to_bytes(2) + payload + bytes([sum(payload) & 0xFF])


# One process, so that every device finds every other one here.
address = os.environ.get("LISTEN", "tcp://127.0.0.1:2004")
gateway = Worker(address, name="gateway", count=1, protocol=DeviceProtocol)
devices: dict[bytes, Connection] = {}


@gateway.on_worker_start
def start(worker: Worker) -> None:
    """Look for silent ones four times within the time that is allowed."""
    Timer.add(SILENCE / 4, drop_silent)


@gateway.on_message
def receive(connection: Connection, package: Package) -> None:
    """One call per package."""
    kind, body = package
    context = connection.context
    context.heard = monotonic()
    if kind == HELLO:
        devices[body] = connection
        context.device = body
        connection.send((HELLO, b"welcome " + body))
    elif not hasattr(context, "device"):
        connection.close((COMMAND, b"who are you?"))
    elif kind == COMMAND:
        device, _, order = body.partition(b"\0")
        found = devices.get(device)
        connection.send(
            (READING, b"sent" if found and found.send((COMMAND, order)) else b"not here")
        )
    else:
        connection.send((kind, b"got " + body))


@gateway.on_takeover
def register_again(connection: Connection) -> None:
    """A reload has moved it into this process, with its context. Another connection of it may have
    been quicker."""
    if hasattr(connection.context, "device"):
        devices.setdefault(connection.context.device, connection)


@gateway.on_close
def forget(connection: Connection) -> None:
    """A device that has come back on another connection stays registered."""
    device = getattr(connection.context, "device", None)
    if device is not None and devices.get(device) is connection:
        del devices[device]


def drop_silent() -> None:
    """A device that has never spoken counts from the first look."""
    for connection in list(gateway.connections.values()):
        if monotonic() - vars(connection.context).setdefault("heard", monotonic()) > SILENCE:
            connection.close()
