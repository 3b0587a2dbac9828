"""Real database servers for the tests: private directories, free ports, ended with the test.

Each `start_…` is a context manager that yields the port. A server that is not installed skips the
test with the reason.
"""

from __future__ import annotations

import getpass
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from instance import wait_for

READY = re.compile("(?i)ready (for|to accept) connections")
"""What Redis, MariaDB and PostgreSQL log once they serve; a port may be open before that."""

POSTGRES_USER = "nobody"
"""PostgreSQL refuses to run as root; root's tests run it as this user."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing has bound, below those that the kernel gives to clients
    (ip(7))."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def find_program(*names: str) -> str:
    """The path of the first program that is installed; skips the test if none is."""
    places = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    places += map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    for name in names:
        if (found := shutil.which(name, path=os.pathsep.join(places))) is not None:
            return found
    pytest.skip(f"{' or '.join(names)} is not installed")


@contextmanager
def running(
    command: Sequence[str], log: Path, user: str | None = None, end: signal.Signals = signal.SIGKILL
) -> Iterator[None]:
    """Run a server until the block ends; go on when its log says that it is ready for
    connections."""
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, user=user, cwd="/")
    try:
        wait_for(
            lambda: READY.search(log.read_text()) or server.poll() is not None,
            f"{command[0]} is ready",
        )
        assert server.poll() is None, f"{command[0]} has ended:\n{log.read_text()}"
        yield
    finally:
        server.send_signal(end)
        server.wait()


@contextmanager
def start_redis(directory: Path) -> Iterator[int]:
    """A Redis server without persistence."""
    program, port = find_program("redis-server", "valkey-server"), free_port()
    command = [
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(directory),
    ]
    with running(command, directory / "redis.log"):
        yield port


@contextmanager
def start_mariadb(directory: Path) -> Iterator[int]:
    """A MariaDB or MySQL server that asks for no password, with an empty database `shop`."""
    program, install = find_program("mariadbd"), find_program("mariadb-install-db")
    data, port = directory / "mariadb", free_port()
    user = getpass.getuser()
    subprocess.run(
        [install, "--no-defaults", f"--datadir={data}", f"--tmpdir={directory}", f"--user={user}",
         "--skip-test-db", "--auth-root-authentication-method=normal"],
        check=True, capture_output=True,
    )  # fmt: skip
    # Temporary tables of two servers may have one name, so each has a directory for them.
    options = [
        "--no-defaults",
        f"--datadir={data}",
        f"--tmpdir={directory}",
        f"--user={user}",
        f"--port={port}",
        "--bind-address=127.0.0.1",
    ]
    options += [f"--socket={directory / 'sql.sock'}", "--skip-grant-tables", "--skip-networking=0"]
    options += [f"--init-file={directory / 'init.sql'}", "--innodb-flush-log-at-trx-commit=0"]
    (directory / "init.sql").write_text("CREATE DATABASE IF NOT EXISTS shop;\n")
    with running([program, *options], directory / "mariadb.log"):
        yield port


@contextmanager
def start_postgres(directory: Path) -> Iterator[int]:
    """A PostgreSQL server that trusts its clients; user and database are called `postgres`."""
    program, initdb, port = find_program("postgres"), find_program("initdb"), free_port()
    user = POSTGRES_USER if os.geteuid() == 0 else None
    # Not below `directory`: pytest keeps its directories closed to other users.
    with tempfile.TemporaryDirectory() as data:
        if user is not None:
            shutil.chown(data, user)
        subprocess.run(
            [initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync",
            "--no-locale"],
            check=True, capture_output=True, user=user, cwd="/",
        )  # fmt: skip
        command = [program, "-D", data, "-p", str(port), "-h", "127.0.0.1", "-F"]
        with running(
            [*command, "-c", "unix_socket_directories="],
            directory / "postgres.log",
            user,
            signal.SIGQUIT,
        ):
            yield port
