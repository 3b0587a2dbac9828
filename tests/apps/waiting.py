"""Operations that wait WAIT seconds: which of them let other connections go on meanwhile?

`measure` answers the name of an operation with two numbers: the seconds that it took, and the
longest pause of the event loop, as a timer of 5 ms has seen it, since the operation began.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import smtplib
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import psycopg
import psycopg2
import pymysql
import redis
import requests
import urllib3

import gworker
from gworker import Connection, Worker
from gworker.http import Request

WAIT = 0.4
ports = {
    name: int(os.environ.get(f"{name}_PORT", "0"))
    for name in ("REDIS", "MYSQL", "POSTGRES", "HTTP", "SMTP")
}

measured = Worker("text://127.0.0.1:0", name="measured")
slow_http = Worker(f"http://127.0.0.1:{ports['HTTP']}", name="slow_http")
slow_smtp = Worker(f"text://127.0.0.1:{ports['SMTP']}", name="slow_smtp")


@slow_http.on_message
def answer_late(connection: Connection, _request: Request) -> None:
    """An HTTP server that takes its time."""
    time.sleep(WAIT)
    connection.send("late")


@slow_smtp.handler
def greet_late(connection: Any) -> None:
    """As much of an SMTP server as a client's start needs."""
    time.sleep(WAIT)
    connection.send("220 late\r")
    for _ in connection:
        connection.send("250 fine\r")


def wait_for_queue() -> None:
    """A queue that a thread fills."""
    items: queue.Queue[int] = queue.Queue()
    threading.Thread(target=lambda: (time.sleep(WAIT), items.put(1))).start()
    items.get()


def wait_for_thread() -> None:
    """A thread that sleeps."""
    thread = threading.Thread(target=time.sleep, args=(WAIT,))
    thread.start()
    thread.join()


def wait_for_redis() -> None:
    """A list that stays empty."""
    client = redis.Redis(port=ports["REDIS"], socket_timeout=10)
    client.blpop(["nothing"], timeout=WAIT)
    client.close()


def wait_for_pymysql() -> None:
    """A slow query by PyMySQL."""
    with pymysql.connect(host="127.0.0.1", port=ports["MYSQL"], user="root") as database:
        database.cursor().execute("SELECT SLEEP(%s)", (WAIT,))


def postgres(library: Any) -> Callable[[], None]:
    """A slow query by psycopg2 or psycopg 3."""

    def wait() -> None:
        database = library.connect(
            f"host=127.0.0.1 port={ports['POSTGRES']} user=postgres dbname=postgres"
        )
        database.cursor().execute("SELECT pg_sleep(%s)", (WAIT,))
        database.close()

    return wait


def wait_for_sqlite() -> None:
    """A database file that another connection has locked."""
    path = Path(f"locked-{os.getpid()}-{id(gevent.getcurrent())}.db")
    holder, waiter = sqlite3.connect(path), sqlite3.connect(path, timeout=WAIT)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        waiter.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        holder.close()
        waiter.close()


def wait_for_flock() -> None:
    """A lock that another program holds."""
    path = Path(f"lock-{id(gevent.getcurrent())}")
    path.touch()
    command = ["flock", str(path), "sh", "-c", f"echo held; exec sleep {WAIT}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder, path.open() as file:
        assert holder.stdout is not None
        holder.stdout.readline()
        _begin()
        fcntl.flock(file, fcntl.LOCK_EX)


OPERATIONS: dict[str, Callable[[], object]] = {
    "time.sleep": lambda: time.sleep(WAIT),
    "queue": wait_for_queue,
    "thread": wait_for_thread,
    "requests": lambda: requests.get(f"http://127.0.0.1:{ports['HTTP']}/", timeout=10),
    "urllib3": lambda: urllib3.PoolManager().request("GET", f"http://127.0.0.1:{ports['HTTP']}/"),
    "smtplib": lambda: smtplib.SMTP("127.0.0.1", ports["SMTP"], timeout=10).close(),
    "redis-py": wait_for_redis,
    "PyMySQL": wait_for_pymysql,
    "psycopg 3": postgres(psycopg),
    "subprocess": lambda: subprocess.run(["sleep", str(WAIT)], check=True),
    "psycopg2": postgres(psycopg2),
    "os.system": lambda: os.system(f"sleep {WAIT}"),
    "sqlite3": wait_for_sqlite,
    "flock": wait_for_flock,
    "blocking(psycopg2)": lambda: gworker.blocking(postgres(psycopg2)),
    "blocking(os.system)": lambda: gworker.blocking(os.system, f"sleep {WAIT}"),
    "blocking(sqlite3)": lambda: gworker.blocking(wait_for_sqlite),
    "asyncio.run": lambda: asyncio.run(asyncio.sleep(WAIT)),
    "blocking(asyncio.run)": lambda: gworker.blocking(lambda: asyncio.run(asyncio.sleep(WAIT))),
}

pauses = [0.0]


def _begin() -> None:
    pauses[:] = [0.0]


def watch_loop() -> None:
    """Note by how much a timer of 5 ms comes late."""
    last = time.monotonic()
    while True:
        gevent.sleep(0.005)
        now = time.monotonic()
        pauses.append(now - last)
        last = now


@measured.on_worker_start
def start_watch(_worker: Worker) -> None:
    """Begin to watch the loop."""
    gevent.spawn(watch_loop)


@measured.on_message
def measure(connection: Connection, name: str) -> None:
    """Run one operation."""
    _begin()
    start = time.monotonic()
    OPERATIONS[name]()
    took = time.monotonic() - start
    gevent.sleep(0.01)  # the watch gets its turn
    connection.send(f"{took:.3f} {max(pauses):.3f}")


handlers = [measured, slow_http, slow_smtp]
