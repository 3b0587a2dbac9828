"""Which blocking code lets other connections go on: docs/blocking.md, measured with the real
servers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import places
import pytest
import servers
from instance import wait_for
from serving import Client, Served

WAIT = 0.4
"""Seconds that each operation of the app waits."""

COOPERATIVE = [
    "time.sleep", "queue", "thread", "requests", "urllib3", "smtplib", "redis-py", "PyMySQL",
    "psycopg 3",
    "subprocess", "blocking(psycopg2)", "blocking(os.system)", "blocking(sqlite3)",
    "blocking(asyncio.run)",
]  # fmt: skip
BLOCKING = ["psycopg2", "os.system", "sqlite3", "flock"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app, with every database server that is installed."""
    directory = tmp_path_factory.mktemp("servers")
    ports = {"HTTP": servers.free_port(), "SMTP": servers.free_port()}
    starts = {
        "REDIS": servers.start_redis,
        "MYSQL": servers.start_mariadb,
        "POSTGRES": servers.start_postgres,
    }
    with ExitStack() as stack:
        for name, start in starts.items():
            try:
                ports[name] = stack.enter_context(start(directory))
            except pytest.skip.Exception:
                continue
        served = Served(tmp_path_factory.mktemp("waiting") / "app", "")
        stack.callback(served.kill)
        shutil.copy(places.APPS / "waiting.py", served.directory / "waiting.py")
        served.start(*(word for name, port in ports.items() for word in ("--env",
        f"{name}_PORT={port}")),
                     target="waiting")  # fmt: skip
        yield served


NEEDS = {
    "redis-py": ("redis-server", "valkey-server"), "PyMySQL": ("mariadbd",),
    "psycopg 3": ("postgres",),
    "psycopg2": ("postgres",), "blocking(psycopg2)": ("postgres",), "flock": ("flock",),
}  # fmt: skip


def measure(served: Served, name: str) -> tuple[float, float]:
    """Seconds that an operation took, and the longest pause of the loop meanwhile."""
    if name in NEEDS:
        servers.find_program(*NEEDS[name])
    with Client(served, "measured") as client:
        client.send(name + "\n")
        took, pause = map(float, client.line().split())
    assert took >= WAIT * 0.9
    return took, pause


@pytest.mark.parametrize("name", COOPERATIVE)
def test_the_loop_goes_on(served: Served, name: str) -> None:
    """A busy machine lengthens each pause, and no operation can shorten one: the least of several
    counts."""
    pauses = (measure(served, name)[1] for _ in range(5))
    assert any(pause < WAIT * 0.7 for pause in pauses)


@pytest.mark.parametrize("name", BLOCKING)
def test_the_loop_stops(served: Served, name: str) -> None:
    """So the page says, and that `blocking` helps: here as well the page has to be right."""
    _, pause = measure(served, name)
    assert pause > WAIT * 0.8


def test_asyncio_run_works_in_one_greenlet_at_a_time(served: Served) -> None:
    """asyncio keeps its running loop for each thread, and all greenlets of a process share one."""
    with Client(served, "measured") as first, Client(served, "measured") as second:
        first.send("asyncio.run\nasyncio.run\n")
        wait_for(lambda: served.row("measured")["requests"], "the first call")
        second.send("asyncio.run\n")
        assert second.is_cut() or first.is_cut()
    served.wait_log("gworker.blocking(asyncio.run, ")
