"""What a process is told of its place: ids that are unique in the instance, and how many processes
there are."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import places
import pytest
from instance import Instance, wait_for

APP = places.app("ids")

Connect = Callable[[Instance, int], list[socket.socket]]


class Told:
    """What the process of a connection says of both."""

    def __init__(self, client: socket.socket) -> None:
        client.sendall(b"?\n")
        self.id, self.worker_id, self.count, self.pid = map(int, client.recv(100).split())


def told(clients: list[socket.socket]) -> list[Told]:
    return [Told(client) for client in clients]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """`connect(instance, many)`: so many connections at least, and one to each process; they end
    with the test."""
    with ExitStack() as opened:

        def connect(one: Instance, many: int) -> list[socket.socket]:
            clients = [opened.enter_context(one.connect("text")) for _ in range(many)]
            processes = {row["pid"] for row in one.workers() if row["state"] == "ready"}

            def reaches_all() -> bool:
                clients.append(opened.enter_context(one.connect("text")))
                return processes <= {each.pid for each in told(clients)}

            wait_for(reaches_all, "a connection to each process")
            return clients

        yield connect


def test_ids_start_at_1_and_are_never_given_again(
    instance: Callable[..., Instance], connect: Connect
) -> None:
    one = instance(APP, "-w", "3")
    clients = connect(one, 30)
    first = told(clients)
    ids = {each.id for each in first}
    assert len(ids) == len(clients)
    assert min(ids) == 1
    assert max(ids) < 3000, "small numbers while there are few"
    assert ids == {row["id"] for row in json.loads(one.run("connections", "--json").stdout)}
    for change in ("reload", "upgrade"):
        assert one.ask_arbiter(change)[-1]["exit"] == 0
        assert [each.id for each in told(clients)] == [each.id for each in first], "they are kept"
        more = connect(one, 10)
        fresh = {each.id for each in told(more)}
        assert len(fresh - ids) == len(more)
        ids |= fresh
    killed = told(clients)[0].pid
    os.kill(killed, signal.SIGKILL)
    wait_for(
        lambda: killed not in {row["pid"] for row in one.workers()} and len(one.workers()) == 3,
        "a successor",
    )
    more = connect(one, 10)
    assert len({each.id for each in told(more)} - ids) == len(more)


def test_every_process_knows_how_many_there_are(
    instance: Callable[..., Instance], connect: Connect
) -> None:
    one = instance(APP, "-w", "3")
    clients = connect(one, 12)
    assert {(each.worker_id, each.count) for each in told(clients)} == {(0, 3), (1, 3), (2, 3)}
    assert one.run("scale", "text", "4").returncode == 0
    wait_for(lambda: {each.count for each in told(clients)} == {4}, "all have heard of the fourth")
    one.signal(signal.SIGTTOU)
    wait_for(lambda: {each.count for each in told(clients)} == {3}, "and that it is gone")
    assert one.reload()["exit"] == 0
    assert {each.count for each in told(clients)} == {3}
