"""A client of an app that speaks JSON, a line a message."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from typing import Any

from instance import DEADLINE
from serving import Served


class LineClient:
    """got: all that it has received, in order, each as `arrived` returns it."""

    def __init__(self, app: Served) -> None:
        self.socket = socket.create_connection(("127.0.0.1", app.port("room")), DEADLINE)
        self.got: list[dict[str, Any]] = []
        self.has_ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError), self.socket.makefile() as lines:
            for line in lines:
                self.got.append(self.arrived(json.loads(line)))
        self.has_ended = True

    def arrived(self, message: dict[str, Any]) -> dict[str, Any]:
        return message

    def send(self, words: object) -> None:
        self.socket.sendall(json.dumps(words).encode() + b"\n")

    def close(self) -> None:
        """End, once all that has come is read."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(DEADLINE)
        self.socket.close()
