"""The manual's JsonInt protocol: a length of four bytes that counts itself, then JSON.

    gworker examples/from_workerman/json_int.py

`input`, `decode` and `encode` of a Workerman protocol are `package_length`, `decode` and `encode`.
The manual's `input` returns 0 for "more is needed"; here that is None.
"""

import json
import os
import struct
from typing import Any

from gworker import Connection, PackageProtocol, ProtocolError, Worker, protocols


class JsonInt(PackageProtocol):
    """Messages are what JSON can say."""

    def package_length(self, buffer: bytes) -> int | None:
        return struct.unpack(">I", buffer[:4])[0] if len(buffer) >= 4 else None

    def decode(self, package: bytes) -> Any:
        try:
            return json.loads(package[4:])
        except ValueError as error:
            raise ProtocolError(f"not JSON: {error}") from error

    def encode(self, message: Any) -> bytes:
        body = json.dumps(message).encode()
        return struct.pack(">I", len(body) + 4) + body


protocols.register("jsonint", JsonInt)
worker = Worker(os.environ.get("LISTEN", "jsonint://127.0.0.1:2022"))


@worker.on_message
def on_message(connection: Connection, data: Any) -> None:
    connection.send({"received": data})
