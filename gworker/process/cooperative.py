"""multiprocessing, and `os.fork` in threads, made cooperative: gevent leaves them blocking.

multiprocessing reads and writes its pipes and takes its semaphores in system calls that wait. In
its pools the threads that do so are greenlets here: the first would stop the event loop, and in a
`multiprocessing.Pool` for good. So they poll first, and wait in the event loop if they have to.
gevent would not know of what multiprocessing starts with "spawn" and "forkserver": waiting for such
a process would stop the loop, or never end.

In threads (`gworker.blocking`), and in processes that were forked here, all of it blocks as ever.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import gevent.os
import gevent.subprocess
from gevent import get_hub
from gevent.monkey import get_original
from greenlet import getcurrent

from gworker.system import fork_guard
from gworker.system.epoll import READ, WRITE

# Seconds between two tries to take a semaphore.
FIRST_PAUSE, LONGEST_PAUSE = 0.0005, 0.02

POLL_SECONDS = 0.01  # of a thread that waits for the end of a process


def install() -> None:
    """Once, after monkey-patching. multiprocessing is changed as it is imported, if it ever is."""
    # gevent does it after the first fork, and would miss a child that has ended by then.
    get_hub().loop.install_sigchld()
    os.fork = _fork
    os.forkpty = _forkpty
    os.waitpid = _waitpid
    subprocess: Any = gevent.subprocess
    subprocess.fork = fork_guard.unguarded(subprocess.fork)
    for name, change in CHANGES.items():
        if name in sys.modules:
            change(sys.modules[name])
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As usual, but a module of CHANGES is changed as soon as it is loaded."""
        spec = PathFinder.find_spec(fullname, path) if fullname in CHANGES else None
        if spec is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                CHANGES[fullname](module)

            loader.exec_module = exec_module
        return spec


def _cooperates() -> bool:
    # True where waiting has to leave the event loop running, and can.
    hub = get_hub()
    return hub.loop.default and getcurrent() is not hub and not fork_guard.is_copy()


# ---- processes


def _fork() -> int:
    # gevent's own fails in a thread, in the parent only: child watchers are for the default loop.
    if get_hub().loop.default:
        return gevent.os.fork()
    return _watched(gevent.os.fork_gevent())


def _forkpty() -> tuple[int, int]:
    if get_hub().loop.default:
        return gevent.os.forkpty()
    pid, terminal = gevent.os.forkpty_gevent()
    return _watched(pid), terminal


def _watched(pid: int) -> int:
    # In a thread: let the event loop know of process `pid`, or it would drop its exit status.
    from gworker.app.worker import running

    if pid and running and not fork_guard.is_copy():
        loop = running[0][1].service.loop
        noted = get_original("_thread", "allocate_lock")()
        noted.acquire()

        def note() -> None:
            gevent.os.fork_and_watch(fork=lambda: pid)
            noted.release()

        loop.run_callback_threadsafe(note)
        noted.acquire()
    return pid


def _waitpid(pid: int, options: int) -> tuple[int, int]:
    # In a thread, what it waits for may come from the event loop.
    if get_hub().loop.default:
        return gevent.os.waitpid(pid, options)
    sleep = get_original("time", "sleep")
    while True:
        found = gevent.os.waitpid(pid, options | os.WNOHANG)
        if found[0] or options & os.WNOHANG:
            return found
        sleep(POLL_SECONDS)


def _change_util(util: Any) -> None:
    execute = util.spawnv_passfds

    def spawnv_passfds(*arguments: object) -> int:
        if get_hub().loop.default:
            return gevent.os.fork_and_watch(fork=lambda: execute(*arguments))
        return _watched(execute(*arguments))

    util.spawnv_passfds = spawnv_passfds


# ---- pipes


def _change_connection(connection: Any) -> None:
    kind = connection.Connection
    receive, send = kind._recv, kind._send

    def read(descriptor: int, size: int) -> bytes:
        if _cooperates():
            _wait(descriptor, READ)
        return os.read(descriptor, size)

    def write(descriptor: int, data: memoryview) -> int:
        if not _cooperates():
            return os.write(descriptor, data)
        _wait(descriptor, WRITE)
        # A pipe that polls writable takes that (pipe(7)).
        return os.write(descriptor, data[: select.PIPE_BUF])

    kind._recv = lambda self, size: receive(self, size, read)
    kind._send = lambda self, data: send(self, memoryview(data).cast("B"), write)


def _wait(descriptor: int, events: int) -> None:
    poll = get_original("select", "poll")()
    poll.register(descriptor, select.POLLIN if events == READ else select.POLLOUT)
    if not poll.poll(0):
        hub = get_hub()
        watcher = hub.loop.io(descriptor, events)
        try:
            hub.wait(watcher)
        finally:
            watcher.close()


# ---- semaphores


def _change_synchronize(synchronize: Any) -> None:
    kind = synchronize.SemLock
    make_methods = kind._make_methods

    def make(self: Any) -> None:
        make_methods(self)
        self.acquire = _polling(self._semlock.acquire)

    kind._make_methods = make
    kind.__enter__ = lambda self: self.acquire()


def _polling(acquire: Callable[..., bool]) -> Callable[..., bool]:
    # A semaphore has no descriptor to wait for.

    def wait(block: bool = True, timeout: float | None = None) -> bool:
        if not block or not _cooperates():
            return acquire(block, timeout)
        end = float("inf") if timeout is None else time.monotonic() + timeout
        pause = FIRST_PAUSE
        while not acquire(False):
            left = end - time.monotonic()
            if left <= 0:
                return False
            gevent.sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_PAUSE)
        return True

    return wait


# By module: what is done to it.
CHANGES: dict[str, Callable[[Any], None]] = {
    "multiprocessing.connection": _change_connection,
    "multiprocessing.synchronize": _change_synchronize,
    "multiprocessing.util": _change_util,
}
