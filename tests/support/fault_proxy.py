"""A TCP proxy that does to connections what networks do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class FaultProxy:
    """Passes bytes between its port and a server's, as `fault` says:

    "": at once. "slow": each piece after `delay`. "trickle": answers come a byte each 50 ms.
    "black hole": nothing goes either way, and no connection ends. "half-open": the server hears
    its clients, and they hear nothing. "refuse": new connections are reset.
    "deaf": no message of a channel comes, and all else does, as from a server that is not the one
    to which they are published.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.fault = ""
        self.delay = 0.3  # seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self._ends: list[socket.socket] = []
        self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """Reset all connections that there are."""
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)
            end.close()

    def close(self) -> None:
        self._is_closed = True
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._ends.append(client)
            if self.fault == "refuse":
                self.reset()
                continue
            if self.fault == "black hole":
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                self.reset()
                continue
            self._ends.append(server)
            for source, sink, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pass, args=(source, sink, is_answer), daemon=True
                ).start()

    def _pass(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self.fault == "black hole" and not self._is_closed:
                    time.sleep(0.01)
                if self.fault == "half-open" and is_answer:
                    continue
                if self.fault == "deaf" and is_answer and b"smessage" in data:
                    continue
                if self.fault == "slow":
                    time.sleep(self.delay)
                if self.fault == "trickle" and is_answer:
                    for byte in data:
                        sink.sendall(bytes([byte]))
                        time.sleep(0.05)
                    continue
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def fault_proxy(port: int) -> Iterator[FaultProxy]:
    proxy = FaultProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
