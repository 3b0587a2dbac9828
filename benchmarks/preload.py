"""Section preload: what --preload saves of memory and of time, for an application with a large
table."""

import random
import time
from collections.abc import Sequence
from functools import partial
from http.client import HTTPConnection
from statistics import median

import psutil
from cost import Settings
from measure import CORES, HOST, Server, pinned, wait_until
from report import Row
from subjects import gworker

PROCESSES = 8
REQUESTS, CONNECTIONS = 10_000, 100


def preload(settings: Settings) -> list[Row]:
    """PSS of all processes after requests that read the table, and seconds from the start until all
    are ready: with the mold, without it, and with one process."""
    one = [measure(settings, 1) for _ in range(settings.rounds)]
    apart = [measure(settings, PROCESSES) for _ in range(settings.rounds)]
    shared = [measure(settings, PROCESSES, ["--preload"]) for _ in range(settings.rounds)]
    seconds = [median(ready for ready, _ in each) for each in (one, apart, shared)]
    memory = [median(size for _, size in each) for each in (one, apart, shared)]
    return [
        Row("preload", f"-w {PROCESSES} without: PSS of all processes", memory[1] / 1e6, "MB"),
        Row("preload", f"-w {PROCESSES} with: PSS of all, the mold too", memory[2] / 1e6, "MB"),
        Row("preload", "relative to that without", memory[2] / memory[1], "×", 0.35),
        Row("preload", f"-w {PROCESSES} without: ready after", seconds[1], "s"),
        Row("preload", f"-w {PROCESSES} with: ready after", seconds[2], "s"),
        Row("preload", "relative to one process without", seconds[2] / seconds[0], "×", 1.5),
    ]


def measure(settings: Settings, workers: int, options: Sequence[str] = ()) -> tuple[float, float]:
    """Seconds until it was ready, and the sum of PSS in bytes."""
    subject = gworker(
        python=settings.python, app="preload_app.py", workers=workers, options=options
    )
    server = subject.serve("table", settings.directory)
    with pinned(CORES):
        started = time.monotonic()
        with server:
            wait_until(partial(is_ready, server), 60, "all processes are ready")
            seconds = time.monotonic() - started
            read_table(server)
            children = psutil.Process(server.root.pid).children(recursive=True)
            return seconds, sum(each.memory_full_info().pss for each in children)


def is_ready(server: Server) -> bool:
    return " is ready: " in server.log.read_text(encoding="utf-8")


def read_table(server: Server) -> None:
    for _ in range(CONNECTIONS):
        connection = HTTPConnection(HOST, server.port)
        for _ in range(REQUESTS // CONNECTIONS):
            connection.request("GET", f"/{random.randrange(1 << 30)}")
            connection.getresponse().read()
        connection.close()
