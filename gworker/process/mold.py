"""The mold: a process that has loaded the target once, and forks the worker processes (--preload).

Owns the loop that waits for the arbiter's orders. What the target has put into memory is shared by
all processes that come from it, until one of them writes there. A process is forked twice, and what
is between ends at once: so the kernel gives it to the arbiter, which is the subreaper (prctl(2)),
and its end is told to the arbiter as that of any other.

Nothing waits in gevent's loop here: a greenlet that the target has started goes on in each process
that is forked, and a timer too, as if that had loaded the target itself.
"""

from __future__ import annotations

import _socket
import logging
import os
import select
import signal
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from typing import NoReturn

from gworker.ipc import heartbeat
from gworker.ipc.channel import Channel
from gworker.ipc.fd_socket import Message
from gworker.ipc.scoreboard import Column, Row
from gworker.logs import setup
from gworker.system import fork_guard
from gworker.system.peer_address import text

log = logging.getLogger("gworker")

# Those of the system: gevent's wait in its event loop.
_waitpid, _poll, _read = os.waitpid, select.poll, os.read
_fork = fork_guard.unguarded(os.fork)

# A terminal sends these to all its processes. The arbiter decides what follows.
IGNORED = signal.SIGINT, signal.SIGHUP, signal.SIGQUIT

Start = Callable[[Message, list[int]], NoReturn]


class Mold:
    """row: where it beats. start: what a forked process does, with the order and the descriptors
    that came with it."""

    def __init__(self, channel: Channel, row: Row, start: Start) -> None:
        self._channel = channel
        self._row = row
        self._start = start
        self._next_tick = 0.0
        self._before = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED}

    def run(self) -> None:
        """Do what the arbiter orders, until it is gone."""
        waiting = _poll()
        waiting.register(self._channel.fileno(), select.POLLIN)
        while True:
            self._beat()
            if not waiting.poll(heartbeat.SECONDS * 1000):
                continue
            try:
                order, descriptors = self._channel.receive()
            except BlockingIOError:
                continue
            if order is None:
                return
            if order["do"] == "reopen":
                setup.replace(list(zip(order["targets"], descriptors, strict=True)))
                continue
            if order["do"] == "fork":
                self._channel.send({"event": "forked", **self._fork(order, descriptors)})
            close(descriptors)

    def _beat(self) -> None:
        now = time.monotonic()
        self._row[Column.BEAT] = time.monotonic_ns()
        if now >= self._next_tick:
            self._next_tick = now + heartbeat.SECONDS
            setup.tick()

    def _fork(self, order: Message, descriptors: list[int]) -> dict[str, int]:
        # What the arbiter is told: `pid`, or `error`, the number of what the system said.
        source, sink = os.pipe()
        try:
            between = _fork()
            if between == 0:
                self._fork_again(sink, order, descriptors)
            close([sink])
            sink = -1
            found = _read(source, 16)
            _waitpid(between, 0)
        except OSError as error:
            return {"pid": 0, "error": error.errno or 0}
        finally:
            close([source, sink])
        pid, number = struct.unpack("qq", found) if len(found) == 16 else (0, 0)
        return {"pid": pid, "error": number}

    def _fork_again(self, sink: int, order: Message, descriptors: list[int]) -> NoReturn:
        # In the process between: it tells the pid of the second one, and ends.
        try:
            try:
                pid, number = _fork(), 0
            except OSError as error:
                pid, number = 0, error.errno or 0
            if pid == 0 and not number:
                close([sink])
                self._channel.close()
                for each, before in self._before.items():
                    signal.signal(each, before)
                self._start(order, descriptors)
            os.write(sink, struct.pack("qq", pid, number))
        finally:
            os._exit(0)


def close(descriptors: Iterable[int]) -> None:
    """Close those that are open. `os.close` is gevent's, and waits for the event loop."""
    for descriptor in descriptors:
        if descriptor >= 0:
            os.closerange(descriptor, descriptor + 1)


# ---- what loading the target has left open


def opened() -> tuple[set[int], int]:
    """The sockets of this process, by descriptor, and how many threads of the system it has."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one of the directory
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.add(int(name))
    return found, len(os.listdir("/proc/self/task"))


def warn_of_shared(before: tuple[set[int], int]) -> None:
    """Log what the target has opened since `before` that all processes would share, or lose."""
    sockets, threads = opened()
    if new := sorted(sockets - before[0]):
        log.warning(
            "loading the target has opened %d socket%s, which all processes share now (%s): with"
            " --preload, open connections in on_worker_start",
            len(new),
            "" if len(new) == 1 else "s",
            ", ".join(map(_peer, new)),
        )
    if threads > before[1]:
        log.warning(
            "loading the target has started %d thread%s, which no process has after the fork: with"
            " --preload, start threads in on_worker_start",
            threads - before[1],
            "" if threads == before[1] + 1 else "s",
        )


def _peer(descriptor: int) -> str:
    # Where a socket leads to, or where it is bound.
    with closing(_socket.socket(fileno=os.dup(descriptor))) as one:
        for address in (one.getpeername, one.getsockname):
            with suppress(OSError):
                return text(address())
    return f"descriptor {descriptor}"
