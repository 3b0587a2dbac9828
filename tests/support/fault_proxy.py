"""A proxy that does to connections what networks do, over TCP or a unix socket."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class FaultProxy:
    """Passes bytes between what connects to `listener` and what `connect` reaches, as `fault` says:

    "": at once. "slow": each piece after `delay`. "trickle": answers come a byte each 50 ms.
    "black hole": nothing goes either way, and no connection ends. "half-open": the server hears
    its clients, and they hear nothing. "refuse": new connections are reset. "stuck": answers are
    not taken from the server, so that they fill its buffers.
    "deaf": no message of a channel comes, and all else does, as from a server that is not the one
    to which they are published.
    """

    def __init__(self, listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self.fault = ""
        self.delay = 0.3  # seconds
        self._listener = listener
        self._ends: list[socket.socket] = []
        self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

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
                server = self._connect()
            except OSError:
                self.reset()
                continue
            self._ends.append(server)
            for source, sink, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pass, args=(source, sink, is_answer), daemon=True
                ).start()

    def _pass(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        how = socket.SHUT_WR
        try:
            while data := source.recv(65536):
                self._pass_on(data, sink, is_answer)
        except OSError:
            how = socket.SHUT_RDWR
            with contextlib.suppress(OSError):
                source.shutdown(how)
        with contextlib.suppress(OSError):
            sink.shutdown(how)

    def _pass_on(self, data: bytes, sink: socket.socket, is_answer: bool) -> None:
        while self._is_held(is_answer) and not self._is_closed:
            time.sleep(0.01)
        if self.fault == "half-open" and is_answer:
            return
        if self.fault == "deaf" and is_answer and b"smessage" in data:
            return
        if self.fault == "slow":
            time.sleep(self.delay)
        while self.fault == "trickle" and is_answer and data:
            sink.sendall(data[:1])
            data = data[1:]
            time.sleep(0.05)
        sink.sendall(data)

    def _is_held(self, is_answer: bool) -> bool:
        return self.fault == "black hole" or (self.fault == "stuck" and is_answer)


def tcp_proxy(port: int) -> FaultProxy:
    """Before a server on this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    return FaultProxy(listener, lambda: socket.create_connection(("127.0.0.1", port)))


@contextmanager
def fault_proxy(port: int) -> Iterator[FaultProxy]:
    """See `tcp_proxy`."""
    with running(tcp_proxy(port)) as one:
        yield one


@contextmanager
def unix_fault_proxy(path: str, target: str) -> Iterator[FaultProxy]:
    """At `path`, before the socket at `target`."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)

    def connect() -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(target)
        return server

    with running(FaultProxy(listener, connect)) as one:
        yield one


@contextmanager
def running(proxy: FaultProxy) -> Iterator[FaultProxy]:
    try:
        yield proxy
    finally:
        proxy.close()
