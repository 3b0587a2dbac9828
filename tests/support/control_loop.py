"""The control socket in a loop of selectors, driven turn by turn, and its clients."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

from gworker.master.control_connection import Call
from gworker.master.control_server import ControlServer


def sockets() -> set[str]:
    """All sockets that this process has open."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {link for link in found if link.startswith("socket:")}


class Loop:
    """The arbiter's loop as far as the control socket is concerned."""

    def __init__(self, path: str) -> None:
        self.selector = selectors.DefaultSelector()
        self.calls: list[Call] = []
        self.on_call: Callable[[Call], None] = lambda call: None
        self.server = ControlServer(path, self.selector, self.handle)
        self.peers: list[Peer] = []
        self.strangers = sockets()
        self.server.open()

    def end(self) -> None:
        for peer in self.peers:
            peer.close()
        self.server.close()
        self.selector.close()

    def handle(self, call: Call) -> None:
        self.calls.append(call)
        self.on_call(call)

    def turn(self, timeout: float = 0) -> int:
        ready = self.selector.select(timeout)
        for key, mask in ready:
            key.data(mask)
        return len(ready)

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline
            self.turn(0.05)

    def settle(self) -> None:
        """Turn until nothing is left to do; a loop that spins fails."""
        for _ in range(1000):
            if not self.turn():
                return
        raise AssertionError("the loop spins")

    @property
    def clients(self) -> int:
        return len(self.selector.get_map()) - 1


class Peer:
    """A blocking client with a deadline."""

    def __init__(self, loop: Loop, request: bytes = b"") -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(loop.server.path)
        self.sock.sendall(request)
        self.file = self.sock.makefile("rb")
        loop.peers.append(self)
        loop.settle()

    def reply(self) -> Any:
        return json.loads(self.file.readline())

    def at_end(self) -> bool:
        try:
            return self.file.readline() == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.file.close()
        self.sock.close()


def ask(**request: object) -> bytes:
    """A request, as a client sends it."""
    return json.dumps(request).encode() + b"\n"
