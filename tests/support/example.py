"""An example that runs, and what its clients do."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import places
from instance import DEADLINE, Instance
from serving import Lines

ANY = "127.0.0.1:0"


class Example(Instance):
    """One example under test."""

    def start_example(self, target: str, *options: str, **environment: str) -> None:
        """Start `target`, relative to the examples."""
        variables = [word for pair in environment.items() for word in ("--env", "=".join(pair))]
        self.start(*options, *variables, target=str(places.EXAMPLES / target))

    announced = ""
    """What a daemon said when it was ready; in the foreground that is in the log."""

    def port(self, name: str) -> int:
        """The port of the Worker whose listen address has the scheme `name`."""
        said = self.announced or self.read_log()
        found = re.search(rf" is ready: .*\b{name}://127\.0\.0\.1:(\d+)", said)
        assert found, said
        return int(found[1])

    @contextmanager
    def lines(self, name: str) -> Iterator[Lines]:
        """A client of a Worker that speaks lines."""
        with self.connect(name) as client:
            yield Lines(client)


class Start(Protocol):
    """Starts an example, relative to the directory of the examples."""

    def __call__(self, target: str, *options: str, **environment: str) -> Example: ...


@contextmanager
def starting(directory: Path) -> Iterator[Start]:
    """What starts examples; all are stopped in the end."""
    with ExitStack() as made:

        def one(target: str, *options: str, **environment: str) -> Example:
            example = Example(directory / target.partition(".")[0].replace("/", "-"), "")
            made.callback(example.kill)
            example.start_example(target, *options, **environment)
            return example

        yield one


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that a server with SO_REUSEADDR can bind and no other is given."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def fetch(
    port: int, method: str, path: str, body: str | None = None, **headers: str
) -> tuple[int, Any, str]:
    """One HTTP exchange: status, header fields, body."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        client.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        response = client.getresponse()
        return response.status, response.headers, response.read().decode()
    finally:
        client.close()
