"""`gworker check` without a TARGET: whether this machine and this Python are fit to serve.

Each check returns a `Finding`. Values of the kernel are read below `PROC`; nothing is changed.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Final, NamedTuple

from gworker.cli import broker_check
from gworker.config.settings import Settings
from gworker.core import IMPLEMENTATION
from gworker.errors import GworkerError

PROC = "/proc/sys"

# States: as it should be; it serves, and could do better; it cannot serve as it is.
OK, ADVICE, MEND = "ok", "advice", "mend"

PYTHON: Final = (3, 11)
# A connection is one. Below the first nothing can be served, from the second on much can.
FEW_DESCRIPTORS, MANY_DESCRIPTORS = 256, 20_000
# What a Worker asks for unless it says otherwise; the kernel cuts it to somaxconn.
BACKLOG: Final = 1024
# Ports for connections that are dialled to one address, as that of a database.
FEW_PORTS: Final = 10_000

LOOP_PROGRAM: Final = """
import json, gevent
loop = gevent.get_hub().loop
print(json.dumps([gevent.__version__, type(loop).__module__, loop.backend]))
"""

# Packages for which the page "Blocking code: what works" says that they work as they are.
OPTIONAL: Final = ("psycopg", "PyMySQL", "SQLAlchemy", "requests")
TROUBLESOME: Final = {
    "psycopg2": "it holds the event loop while it waits: take psycopg 3, or psycogreen beside it",
    "psycopg2-binary": "it holds the event loop while it waits: take psycopg 3, or psycogreen "
    "beside it",
    "mysqlclient": "it holds the event loop while it waits: take PyMySQL, or call it by "
    "gworker.blocking",
}


class Finding(NamedTuple):
    name: str
    state: str
    text: str


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    text = f"{sys.implementation.name} {version}, {sys.executable}"
    if sys.version_info[:2] < PYTHON:
        return Finding(
            "python", MEND, f"{text}: Python {'.'.join(map(str, PYTHON))} or later is needed"
        )
    return Finding("python", OK, text)


def packages() -> Finding:
    try:
        required = metadata.requires("gworker") or []
    except metadata.PackageNotFoundError:
        return Finding(
            "packages",
            ADVICE,
            "gworker is not installed, only its code is there: pip install gworker",
        )
    unmet = [each for each in required if "extra ==" not in each and not _is_met(each)]
    if unmet:
        return Finding("packages", MEND, f"pip install {' '.join(repr(each) for each in unmet)}")
    return Finding("packages", OK, "all that gworker requires is installed")


def _is_met(requirement: str) -> bool:
    # As far as its name and its lowest version go.
    found = re.match(r"([\w.-]+)(?:.*?>=\s*([\d.]+))?", requirement)
    if found is None:
        return False
    version = _version(found[1])
    return bool(version) and _numbers(version) >= _numbers(found[2] or "0")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def core() -> Finding:
    if IMPLEMENTATION == "compiled":
        return Finding("core", OK, IMPLEMENTATION)
    if os.environ.get("GWORKER_PURE"):
        return Finding("core", OK, f"{IMPLEMENTATION}, as GWORKER_PURE says")
    how = "pip install --force-reinstall --no-deps --no-cache-dir gworker"
    return Finding(
        "core",
        ADVICE,
        f"{IMPLEMENTATION}; with a C compiler and Python.h here, this compiles it: {how}",
    )


def gevent() -> Finding:
    # A process is asked: the command itself does not import gevent.
    command = [sys.executable, "-c", LOOP_PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = (done.stderr.splitlines() or [f"exit code {done.returncode}"])[-1]
        return Finding(
            "gevent", MEND, f"cannot be used ({why}): pip install --force-reinstall gevent greenlet"
        )
    version, module, backend = json.loads(done.stdout)
    text = f"gevent {version}, event loop {module} with {backend}"
    if not module.startswith("gevent.libev"):
        return Finding("gevent", MEND, f"{text}: libev is needed, unset GEVENT_LOOP")
    if backend != "epoll":
        return Finding("gevent", MEND, f"{text}: epoll is needed, unset GEVENT_BACKEND")
    return Finding("gevent", OK, text)


def descriptors() -> Finding:
    # A worker process raises the soft limit to the hard one.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return Finding("descriptors", OK, "without a limit")
    text = f"{hard} for each process, so somewhat fewer connections"
    if hard >= MANY_DESCRIPTORS:
        return Finding("descriptors", OK, text)
    how = "LimitNOFILE= of systemd, --ulimit nofile= of docker, limits.conf(5)"
    state = MEND if hard < FEW_DESCRIPTORS else ADVICE
    return Finding("descriptors", state, f"{text}: raise the hard limit: {how}")


def somaxconn() -> Finding:
    most = _kernel("net/core/somaxconn")
    if most is None:
        return Finding("somaxconn", ADVICE, f"{PROC}/net/core/somaxconn cannot be read")
    text = f"{most[0]} connections may wait at a listener"
    if most[0] >= BACKLOG:
        return Finding("somaxconn", OK, text)
    how = f"a Worker asks for {BACKLOG} (backlog): sysctl -w net.core.somaxconn={BACKLOG}"
    return Finding("somaxconn", ADVICE, f"{text}: {how}")


def ephemeral_ports() -> Finding:
    found = _kernel("net/ipv4/ip_local_port_range")
    if found is None:
        return Finding(
            "ephemeral ports", ADVICE, f"{PROC}/net/ipv4/ip_local_port_range cannot be read"
        )
    first, last = found
    count = last - first + 1
    text = f"{first} to {last}, {count} for dialled connections to one address; listen on others"
    if count >= FEW_PORTS:
        return Finding("ephemeral ports", OK, text)
    how = 'few: sysctl -w net.ipv4.ip_local_port_range="32768 60999"'
    return Finding("ephemeral ports", ADVICE, f"{text}: {how}")


def terminal() -> Finding:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if encoding != "utf8":
        return Finding(
            "terminal", ADVICE, f"the encoding is {encoding or 'unknown'}: export LANG=C.UTF-8"
        )
    if not sys.stdout.isatty():
        return Finding("terminal", OK, "none, so that tables are plain")
    kind = os.environ.get("TERM", "")
    if kind in ("", "dumb"):
        return Finding("terminal", ADVICE, "TERM is not set: export TERM=xterm-256color")
    return Finding(
        "terminal", OK, f"{kind}, {os.get_terminal_size(sys.stdout.fileno()).columns} columns"
    )


def redis() -> Finding:
    version = _version("redis")
    missing = "redis-py is not installed; if your code uses Redis: pip install redis"
    return Finding("redis", OK, f"redis-py {version}" if version else missing)


def optional() -> Finding:
    versions = {name: _version(name) for name in OPTIONAL}
    there = [f"{name} {version}" for name, version in versions.items() if version]
    missing = [name for name, version in versions.items() if not version]
    text = ", ".join(there) or "none"
    return Finding(
        "optional packages",
        OK,
        text + (f"; not installed: {', '.join(missing)}" if missing else ""),
    )


def troublesome() -> Iterator[Finding]:
    for name, why in TROUBLESOME.items():
        if version := _version(name):
            yield Finding("optional packages", ADVICE, f"{name} {version}: {why}")


CHECKS: Final[tuple[Callable[[], Finding], ...]] = (
    python, packages, core, gevent, descriptors, somaxconn, ephemeral_ports, terminal, redis,
    optional,
)  # fmt: skip


def _kernel(name: str) -> list[int] | None:
    # None: it cannot be read, as in some sandboxes.
    try:
        with open(os.path.join(PROC, name)) as file:
            return [int(word) for word in file.read().split()]
    except (OSError, ValueError):
        return None


def broker(settings: Settings) -> Finding:
    try:
        return Finding("broker", OK, broker_check.examine(settings))
    except GworkerError as error:
        return Finding("broker", MEND, str(error))


def check(settings: Settings, as_json: bool = False) -> int:
    """Print a line for each finding; 1 if one has to be mended, else 0."""
    found = [*(run() for run in CHECKS), *troublesome(), broker(settings)]
    if as_json:
        print(json.dumps([each._asdict() for each in found], indent=2))
    else:
        for name, state, text in found:
            print(f"{name:<18}{state:<8}{text}")
    return 1 if any(each.state == MEND for each in found) else 0
