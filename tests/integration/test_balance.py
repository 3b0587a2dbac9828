"""Processes that share a Worker's connections: evenly on one listener, and with reuse_port without
losing any."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import places
import pytest
from instance import DEADLINE, wait_for
from serving import Served, serve

pytestmark = pytest.mark.timeout(180)

APP = """
shared = Worker("text://127.0.0.1:0", count=4, reloadable=False)
own = Worker("text://127.0.0.1:0", count=2, reuse_port=True)

@shared.on_message
@own.on_message
def answer(connection, line):
    connection.send(str(os.getpid()))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP, "--graceful-timeout", "20") as one:
        yield one


def open_many(stack: ExitStack, served: Served, name: str, number: int) -> list[socket.socket]:
    address = ("127.0.0.1", served.port(name))
    made = [stack.enter_context(socket.create_connection(address, DEADLINE)) for _ in range(number)]
    for one in made:
        one.sendall(b"pid\n")
    return made


def settled(served: Served, name: str) -> dict[int, int]:
    """The pid of each slot, when each has one process and that is ready."""

    def look() -> dict[int, int]:
        rows = served.workers(name)
        fine = len({row["id"] for row in rows}) == len(rows) and all(
            row["state"] == "ready" for row in rows
        )
        return {row["id"]: row["pid"] for row in rows} if fine else {}

    return wait_for(look, f"{name}: every slot is ready")


def nobody_is_left(served: Served, name: str) -> bool:
    return sum(row["connections"] for row in served.workers(name)) == 0


def test_connections_are_spread_evenly(served: Served) -> None:
    wait_for(lambda: nobody_is_left(served, "shared"), "all closed")
    with ExitStack() as stack:
        for one in open_many(stack, served, "shared", 400):
            assert one.recv(100)
        counts = [row["connections"] for row in served.workers("shared")]
        assert sum(counts) == 400
        # A crowded machine may keep one off the processor; then the others do not wait for it for
        # ever.
        assert max(counts) / min(counts) <= 1.4, counts


def test_one_that_hangs_keeps_no_client_waiting(served: Served) -> None:
    """It has the fewest connections, so all others would leave the queue to it."""
    wait_for(lambda: nobody_is_left(served, "shared"), "all closed")
    stopped = settled(served, "shared")[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            pids = {int(one.recv(100)) for one in open_many(stack, served, "shared", 60)}
        assert stopped not in pids
    finally:
        os.kill(stopped, signal.SIGCONT)


def test_reuse_port_the_queue_of_a_killed_process_is_served_by_the_next(served: Served) -> None:
    pids = settled(served, "own")
    os.kill(pids[0], signal.SIGSTOP)
    with ExitStack() as stack:
        waiting = open_many(stack, served, "own", 40)
        # Clients that the kernel gave to the other process have an answer; the others lie in the
        # queue of the stopped one.
        wait_for(
            lambda: next(row["connections"] for row in served.workers("own") if row["id"] == 1) > 0,
            "some answered",
        )
        os.kill(pids[0], signal.SIGKILL)
        answered = {int(one.recv(100)) for one in waiting}
    assert pids[0] not in answered
    assert answered == set(settled(served, "own").values()), "both sockets had connections"


def test_reuse_port_a_reload_loses_no_connection(served: Served) -> None:
    command = [*places.program("load"), "tcp", "127.0.0.1", str(served.port("own"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "running\n"
        before = settled(served, "own")
        assert served.reload() == {"exit": 0}
        assert not set(settled(served, "own").values()) & set(before.values())
        told = json.loads(client.communicate(timeout=DEADLINE)[0])
    assert told["faults"] == {}
    assert {str(pid) for pid in before.values()} & set(told["said"])
    assert set(told["said"]) - {str(pid) for pid in before.values()}, "served by both generations"


def test_reuse_port_a_process_that_goes_takes_its_queue_along(served: Served) -> None:
    """Its socket is closed with it, so what waits there would be reset."""
    pids = settled(served, "own")
    os.kill(pids[1], signal.SIGSTOP)
    with ExitStack() as stack:
        waiting = open_many(stack, served, "own", 40)
        assert served.ask_arbiter("scale", worker="own", count=1)[-1] == {"exit": 0}
        os.kill(pids[1], signal.SIGCONT)
        assert {int(one.recv(100)) for one in waiting} == set(pids.values())
    wait_for(lambda: len(served.workers("own")) == 1, "it has left")
