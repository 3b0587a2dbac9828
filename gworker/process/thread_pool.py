"""`gworker.blocking`: code that would stop the whole process runs in a thread meanwhile.

Monkey-patching makes Python's own sockets, locks and sleeps cooperative. What waits or computes
inside a C library knows nothing of that. The threads are gevent's, in a pool of our own: its hub's
pool also resolves names, and a few slow queries must not keep a connection from being dialled.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from gevent import get_hub
from gevent.threadpool import ThreadPool

from gworker.app import worker
from gworker.system import fork_guard

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

THREADS = 10  # at most, unless the Worker says otherwise (`blocking_threads`)

# By process: one that was forked here has none of its parent's threads, and a pool of its own.
_pools: dict[int, ThreadPool] = {}


def blocking(
    func: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Run `func(*args, **kwargs)` in a thread and return what it returns; only this greenlet waits.

    What it raises is raised here. At most `blocking_threads` (Worker argument, 10) run at once,
    further calls wait their turn. A thread cannot be stopped: if a `gevent.Timeout` ends the wait,
    the call goes on, its result is lost. The function must not touch connections, timers or other
    things of gworker: those belong to the event loop.
    """
    if not callable(func):
        raise TypeError(
            "blocking() calls a function in a thread: blocking(f, x), not blocking(f(x)); got "
            f"{func!r}"
        )
    result, error = _pool().apply(_outcome, (func, args, kwargs))
    if error is not None:
        raise error
    return cast(Result, result)


def _outcome(
    func: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[Any, BaseException | None]:
    # What is raised is returned: gevent would print it as well.
    try:
        result = func(*args, **kwargs)
    except BaseException as error:
        fork_guard.end(error)
        return None, error
    fork_guard.end()
    return result, None


def _pool() -> ThreadPool:
    # Made when it is first needed: threads do not survive a fork.
    pid = os.getpid()
    if pid not in _pools:
        options = worker.running[0][0].options if worker.running else {}
        _pools[pid] = ThreadPool(options.get("blocking_threads", THREADS), hub=get_hub())
    return _pools[pid]
