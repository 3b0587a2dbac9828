"""`gworker.blocking`: code that would stop the whole process runs in a thread meanwhile.

Monkey-patching makes Python's own sockets, locks and sleeps cooperative. What waits or computes
inside a C library knows nothing of that. The threads are gevent's, in a pool of our own: its hub's
pool also resolves names, and a few slow queries must not keep a connection from being dialled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from gevent import get_hub
from gevent.threadpool import ThreadPool

from gworker.app import worker
from gworker.system import fork_guard

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

THREADS = 10  # at most, unless the Worker says otherwise (`blocking_threads`)

_pools: list[ThreadPool] = []
# The pool of this process, and in one that was forked that of its parent.
_lost: list[ThreadPool] = []


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
    if not _pools:
        options = worker.running[0][0].options if worker.running else {}
        size = options.get("blocking_threads", THREADS)
        _pools.append(ThreadPool(size, hub=get_hub()))
        fork_guard.on_fork(_release_all)
    return _pools[0]


def _release_all() -> None:
    # In a process that user code has forked: it has none of these threads.
    _lost.extend(_pools)
    _pools.clear()
