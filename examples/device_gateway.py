"""A binary framing of your own: magic A5 5A, 2-byte length, payload, 1-byte checksum.

    gworker examples/device_gateway.py

Try it with `printf '\\xa5\\x5a\\0\\2hi\\xd1' | nc -N 127.0.0.1 2004 | xxd`.
"""

import os

from gworker import Connection, PackageProtocol, ProtocolError, Worker

MAGIC = b"\xa5\x5a"


class DeviceProtocol(PackageProtocol):
    """Where a package ends, and what it means. A ProtocolError ends the connection."""

    def package_length(self, buffer: bytes) -> int | None:
        """Refuse garbage by its first bytes; wait for the header; then it is known."""
        if not MAGIC.startswith(buffer[:2]):
            raise ProtocolError(f"a package begins with a5 5a, not {buffer[:2].hex(' ')}")
        return 4 + int.from_bytes(buffer[2:4]) + 1 if len(buffer) >= 4 else None

    def decode(self, package: bytes) -> bytes:
        """The payload, if it arrived unharmed."""
        if sum(package[4:-1]) & 0xFF != package[-1]:
            raise ProtocolError("wrong checksum", reply=self.encode(b"checksum"))
        return package[4:-1]

    def encode(self, message: bytes) -> bytes:
        return MAGIC + len(message).to_bytes(2) + message + bytes([sum(message) & 0xFF])


gateway = Worker(os.environ.get("LISTEN", "tcp://127.0.0.1:2004"), name="gateway", protocol=DeviceProtocol)


@gateway.on_message
def receive(connection: Connection, payload: bytes) -> None:
    """One call per package."""
    connection.send(b"got " + payload)
