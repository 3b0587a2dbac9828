"""A JSON-lines service: one request per line, one answer per line; the protocol checks and
converts.

    gworker examples/json_lines.py

Try: `echo '{"id": 1, "add": [1, 2]}' | nc -N 127.0.0.1 2007`
"""

import json
import os

from gworker import Connection, PackageProtocol, ProtocolError, Worker, protocols


class JsonLines(PackageProtocol):
    """A package is a line; what is not JSON ends the connection, with a last line that says why."""

    def package_length(self, buffer: bytes) -> int | None:
        return buffer.find(b"\n") + 1 or None

    def decode(self, package: bytes) -> object:
        try:
            return json.loads(package)
        except ValueError as error:
            raise ProtocolError(
                "not JSON", reply=self.encode({"error": f"not JSON: {error}"})
            ) from error

    def encode(self, message: object) -> bytes:
        return json.dumps(message).encode() + b"\n"


protocols.register("jsonl", JsonLines)  # a scheme; a distribution makes one by an entry point
service = Worker(os.environ.get("LISTEN", "jsonl://127.0.0.1:2007"), name="service")


@service.on_message
def add(connection: Connection, request: dict[str, list[float]]) -> None:
    """What goes wrong is the caller's to read; the connection goes on."""
    try:
        connection.send({"id": request["id"], "sum": sum(request["add"])})
    except (KeyError, TypeError) as error:
        connection.send({"error": f"{type(error).__name__}: {error}"})
