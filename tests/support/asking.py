"""Clients that ask without a pause, each in a thread, and write down which process has answered."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from instance import DEADLINE
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gworker.system import address


class Ended(Exception):
    """The server has closed the connection, between two answers."""


class Client:
    """One connection, which asks once at a time. `ask` raises Ended when it is over."""

    def __init__(self, place: tuple[str, int]) -> None:
        self.socket = socket.create_connection(place, timeout=DEADLINE)
        self.file = self.socket.makefile("rb")

    def close(self) -> None:
        self.file.close()
        self.socket.close()


class Text(Client):
    def ask(self) -> str:
        try:
            self.socket.sendall(b"?\n")
            answer = self.file.readline()
        except (ConnectionResetError, BrokenPipeError):
            raise Ended from None
        if not answer:
            raise Ended
        return answer.decode().strip()


class Http(Client):
    fields = b""

    def __init__(self, place: tuple[str, int]) -> None:
        super().__init__(place)
        self.is_last = False

    def ask(self) -> str:
        if self.is_last:
            raise Ended
        self.socket.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + self.fields + b"\r\n")
        status = self.file.readline()
        assert status.startswith(b"HTTP/1.1 200"), status
        fields = dict(
            line.split(b": ", 1) for line in iter(lambda: self.file.readline().strip(), b"")
        )
        self.is_last = fields.get(b"Connection") == b"close"
        return self.file.read(int(fields[b"Content-Length"])).decode()


class Short(Http):
    fields = b"Connection: close\r\n"


class WebSocket:
    def __init__(self, place: tuple[str, int]) -> None:
        self.stack = ExitStack()
        self.connection = self.stack.enter_context(
            connect(f"ws://{place[0]}:{place[1]}", compression=None)
        )

    def ask(self) -> str:
        try:
            self.connection.send("?")
            return str(self.connection.recv(DEADLINE))
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code == 1012:
                raise Ended from None
            raise

    def close(self) -> None:
        self.stack.close()


class Udp:
    def __init__(self, place: tuple[str, int]) -> None:
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(place)

    def ask(self) -> str:
        self.socket.send(b"?")
        return self.socket.recv(100).decode()

    def close(self) -> None:
        self.socket.close()


class Asking:
    """What several clients of one kind have seen."""

    def __init__(self, kind: Callable[[tuple[str, int]], Any], url: str) -> None:
        self.kind = kind
        self.place = address.parse(url).host, address.parse(url).port
        self.said: Counter[str] = Counter()
        self.faults: list[Exception] = []
        self.connects = 0
        self.is_over = False

    def loop(self) -> None:
        client = None
        while not self.is_over:
            try:
                if client is None:
                    self.connects += 1
                    client = self.kind(self.place)
                self.said[client.ask()] += 1
            except Ended:
                client.close()
                client = None
            except Exception as error:
                self.faults.append(error)
                break
        if client is not None:
            client.close()


@contextmanager
def asking(
    clients: int, **kinds: tuple[Callable[[tuple[str, int]], Any], str]
) -> Iterator[dict[str, Asking]]:
    """`clients` of each kind ask at their URLs as long as the block runs."""
    found = {name: Asking(*kind) for name, kind in kinds.items()}
    threads = [
        threading.Thread(target=each.loop) for each in found.values() for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        for each in found.values():
            each.is_over = True
        for thread in threads:
            thread.join()
