"""One instance that many tests of a module share, and what its app tells about itself.

The app records what happens to a connection in a file, one line `PORT WORD`, where PORT is the
peer's: so every test reads the story of its own sockets, whatever the others do meanwhile.
"""

from __future__ import annotations

import itertools
import re
import shutil
import socket
import struct
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import places
import psutil
from instance import DEADLINE, Instance, wait_for

from gworker.cli import control_client as control
from gworker.cli import instances

PRELUDE = """
import os, sys, time, threading

import gworker
from gworker import Timer, Worker
from recording import outside, record
"""
"""What stands before a few lines that a test has for an app. A whole module, which begins with its
docstring, is taken as it stands."""

_numbers = itertools.count()


class Served(Instance):
    """An instance whose ports are looked up once."""

    def __init__(self, directory: Path, source: str) -> None:
        super().__init__(directory, "")
        shutil.copy(places.APPS / "recording.py", directory)
        is_module = source.startswith('"""')
        text = source if is_module else PRELUDE + textwrap.dedent(source)
        (directory / "app.py").write_text(text)
        self.listen: dict[str, str] = {}
        self._ports: set[int] = set()

    def start(self, *options: str, target: str = "app", wait: bool = True) -> None:
        super().start(*options, target=target, wait=wait)
        if wait:
            self.listen = {row["worker"]: row["listen"] for row in self.status()["workers"]}

    def status(self) -> dict[str, Any]:
        """What `gworker status --json` prints, without the half second that a new interpreter
        takes."""
        (instance,) = instances.scan([str(self.runtime)])
        with closing(control.connect(instance, DEADLINE)) as connection:
            replies = list(connection.call("status"))
        (status,) = (reply["status"] for reply in replies if "status" in reply)
        return dict(status)

    def port(self, name: str) -> int:
        """The port on which a Worker listens."""
        return int(self.listen[name].rpartition(":")[2])

    def row(self, name: str) -> dict[str, Any]:
        """The row of a Worker with one process."""
        (row,) = self.workers(name)
        return row

    def counted(self, name: str, **least: int) -> None:
        """Wait until the counters in the row of a Worker have reached `least`."""
        wait_for(
            lambda: all(self.row(name)[key] >= value for key, value in least.items()),
            f"{name}: {least}",
        )

    def server(self, name: str) -> psutil.Process:
        """The process of a Worker with one process."""
        return psutil.Process(self.row(name)["pid"])

    def fresh_socket(self) -> socket.socket:
        """A socket whose port none has had before: by its port, what is recorded of a connection is
        found."""
        with ExitStack() as others:
            while True:
                one = socket.socket()
                one.bind(("127.0.0.1", 0))
                if (port := one.getsockname()[1]) not in self._ports:
                    self._ports.add(port)
                    return one
                others.enter_context(
                    one
                )  # until there is another one: else the kernel might give it again

    def events(self, who: socket.socket | int | str) -> list[str]:
        """What was recorded of the connection of a client's socket."""
        key = who.getsockname()[1] if isinstance(who, socket.socket) else who
        lines = (self.directory / "events").read_text().splitlines()
        return [line.partition(" ")[2] for line in lines if line.partition(" ")[0] == str(key)]

    def wait_event(self, who: socket.socket | int | str, event: str) -> list[str]:
        """Wait until `event` was recorded; return all events of this connection."""
        wait_for(lambda: event in self.events(who), f"{event!r} of {self.events(who)}")
        return self.events(who)

    def wait_story(self, who: socket.socket | int | str, *story: str) -> None:
        """Wait until exactly `story` was recorded."""
        end = time.monotonic() + DEADLINE
        while (events := self.events(who)) != list(story):
            assert time.monotonic() < end, (
                f"expected {list(story)}, there is {events}\n{self.read_log()[-2000:]}"
            )
            time.sleep(0.01)


@contextmanager
def serve(factory: Any, source: str, *options: str, target: str = "app") -> Iterator[Served]:
    """Start `source` in a directory made by pytest's `tmp_path_factory`; end it afterwards."""
    one = Served(factory.mktemp("app") / str(next(_numbers)), source)
    try:
        one.start(*options, target=target)
        yield one
    finally:
        one.kill()


class Client:
    """A socket with deadlines that reads what a test expects."""

    def __init__(self, served: Served, name: str, receive_buffer: int = 0) -> None:
        self.served = served
        self.socket = served.fresh_socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(("127.0.0.1", served.port(name)))
        self.port = self.socket.getsockname()[1]
        self.buffer = bytearray()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes | str) -> None:
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def _more(self, size: int = 65536) -> bytes:
        data = self.socket.recv(size)
        self.buffer += data
        return data

    def _take(self, size: int) -> bytes:
        found = bytes(self.buffer[:size])
        del self.buffer[:size]
        return found

    def until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`."""
        seen = 0
        while (at := self.buffer.find(mark, seen)) < 0:
            seen = max(0, len(self.buffer) - len(mark))
            assert self._more(), (
                f"end of file before {mark!r}; there was {bytes(self.buffer[:200])!r}"
            )
        return self._take(at + len(mark))

    def line(self) -> str:
        """The next line."""
        return self.until(b"\n")[:-1].decode()

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            assert self._more(), f"end of file after {len(self.buffer)} of {size} bytes"
        return self._take(size)

    def rest(self) -> bytes:
        """Everything until the end of file."""
        while self._more(1 << 18):
            pass
        return self._take(len(self.buffer))

    def finish(self) -> None:
        """Half-close."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def is_cut(self) -> bool:
        """Read until the connection is over, whichever way."""
        try:
            self.rest()
        except ConnectionError:
            return True
        return True

    def events(self) -> list[str]:
        return self.served.events(self.port)

    def wait_event(self, event: str) -> list[str]:
        return self.served.wait_event(self.port, event)

    def wait_story(self, *story: str) -> None:
        self.served.wait_story(self.port, *story)

    def http(self, request: bytes | str) -> tuple[int, dict[str, str], bytes]:
        """Send a request and return (status, header fields, body) of its answer."""
        self.send(request)
        return self.answer()

    def answer(self, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        """The next HTTP answer, by its Content-Length."""
        head = self.until(b"\r\n\r\n").decode("latin-1")
        status = re.match(r"HTTP/1\.1 (\d{3}) ", head)
        assert status, head
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
        fields = {name.lower(): value for name, value in fields.items()}
        size = 0 if head_only else int(fields.get("content-length", "0"))
        return int(status[1]), fields, self.exactly(size)


@contextmanager
def clients(served: Served, name: str, number: int) -> Iterator[list[Client]]:
    """Many of them."""
    with ExitStack() as stack:
        yield [stack.enter_context(Client(served, name)) for _ in range(number)]


def wait_stall(sent: list[int]) -> None:
    """Until a sender that counts its bytes in `sent` has sent nothing for a third of a second: no
    more is taken."""
    last, since = -1, time.monotonic()
    end = since + DEADLINE
    while time.monotonic() - since < 0.33:
        assert time.monotonic() < end, "it takes everything"
        if sent[0] != last:
            last, since = sent[0], time.monotonic()
        time.sleep(0.02)


class Lines:
    """A client that speaks lines."""

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self._file = client.makefile("rb")

    def ask(self, line: str) -> str:
        """Send a line and return the next one that comes."""
        self.socket.sendall(line.encode() + b"\n")
        return self.read()

    def read(self) -> str:
        """The next line; "" at the end."""
        return self._file.readline().decode().rstrip("\n")


def ask(app: Served, command: str) -> str:
    """What `app` answers to a line, on a connection of its own."""
    with Client(app, "text") as client:
        client.send(f"{command}\n")
        return client.line()


class Ticker(threading.Thread):
    """Asks on one connection again and again: how long did an answer take at most?"""

    def __init__(self, app: Served) -> None:
        super().__init__()
        self._client = Client(app, "text")
        self._times: list[float] = []
        self._over = False

    def __enter__(self) -> Ticker:
        self.start()
        return self

    def run(self) -> None:
        while not self._over:
            self._client.send("pid\n")
            self._client.line()
            self._times.append(time.monotonic())
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self._over = True
        self.join()
        self._client.socket.close()

    @property
    def longest(self) -> float:
        return max(after - before for before, after in pairwise(self._times))
