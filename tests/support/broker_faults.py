"""A broker process behind a listener that outlives it, and a proxy that makes faults on the way."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import places

PROGRAM = places.TESTS / "programs" / "runs_broker.py"


def until(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Wait until the condition holds; return what it returns."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.01)
    return value


def listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    return listener


class BrokerProcess:
    """`path`: where it listens. The listener is held here, as the arbiter does. lease: seconds."""

    def __init__(self, lease: float = 30) -> None:
        self.lease = lease
        self.directory = tempfile.TemporaryDirectory(prefix="gworker-broker-")
        self.path = os.path.join(self.directory.name, "broker")
        self.log = Path(self.directory.name, "log")
        self.listener = listen(self.path)
        self.popen: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(self.listener.fileno()), str(self.lease)],
                pass_fds=[self.listener.fileno()],
                stdout=output,
                stderr=output,
            )

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(5)

    def close(self) -> None:
        self.kill()
        self.listener.close()
        self.directory.cleanup()


class FaultProxy:
    """Forwards connections from `path` to another unix socket.

    passes_up, passes_down: whether what clients send, and what they get, is forwarded; what is not
    stays unread. refuses: connections are taken and closed. delay: seconds before each piece.
    """

    def __init__(self, path: str, target: str) -> None:
        self.path = path
        self.passes_up = self.passes_down = True
        self.refuses = False
        self.delay = 0.0
        self._target = target
        self._ends: list[socket.socket] = []
        self._listener = listen(path)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            self._ends += client, server
            for arguments in ((client, server, "passes_up"), (server, client, "passes_down")):
                threading.Thread(target=self._forward, args=arguments, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, passes: str) -> None:
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65536)
                while not getattr(self, passes):
                    time.sleep(0.01)
                if not data:
                    break
                time.sleep(self.delay)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def partition(self) -> None:
        self.passes_up = self.passes_down = False

    def heal(self) -> None:
        self.passes_up = self.passes_down = True

    def reset(self) -> None:
        """Break all connections that there are."""
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.reset()
