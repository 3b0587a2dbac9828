"""`gworker.computing`: a function computes in another process, and only its caller waits.

Each worker process has a ProcessPoolExecutor, which starts processes as they are needed, up to
`--computing-processes`. They are spawned, not forked: each is a new interpreter that imports what
it is to run, and shares no sockets or greenlets. Nothing is monkey-patched there.

The work is packed and unpacked here and not by the executor, for which an exception that cannot be
unpacked is the end of the whole pool.
"""

from __future__ import annotations

import os
import pickle
import sys
from _thread import get_native_id
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from gworker.app import worker
from gworker.system import fork_guard

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(slots=True)
class _Computing:
    processes: int | None = None
    title: str = ""
    pool: ProcessPoolExecutor | None = None


_own = _Computing()


def attach(processes: int | None, title: str) -> None:
    """In a worker process. processes: None takes as many as there are processors. title: theirs."""
    _own.processes, _own.title = processes, title


def computing(
    func: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Run `func(*args, **kwargs)` in another process and return what it returns; only this greenlet
    waits.

    func: a function at the top level of a module, as multiprocessing has it; what it takes and
    returns has to be picklable, and what it raises is raised here. At most `--computing-processes`
    calls run at once for each worker process (default: as many as there are processors), further
    ones wait their turn. If a `gevent.Timeout` ends the wait, a call that has begun goes on, and
    its result is lost.

    Raises TypeError for what cannot be sent there, RuntimeError outside a worker process or in a
    thread, and concurrent.futures.process.BrokenProcessPool if a process of the pool dies: all
    calls that it had are lost, and the next one gets a new pool.
    """
    if not callable(func):
        raise TypeError(
            "computing() calls a function elsewhere: computing(f, x), not computing(f(x)); got "
            f"{func!r}"
        )
    _check_place()
    try:
        work = pickle.dumps((func, args, kwargs), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise TypeError(
            f"computing() cannot send {func!r} and its arguments to another process: {error}"
        ) from error
    result, raised, trace = pickle.loads(_compute(work))
    if raised is not None:
        raised.add_note(f"In the process that computed:\n{trace}")
        raise raised
    return cast(Result, result)


def _check_place() -> None:
    if not worker.running:
        raise RuntimeError(
            "gworker.computing() works in a worker process: call it in on_worker_start or later"
        )
    if fork_guard.is_copy():
        raise RuntimeError(
            "gworker.computing() works in a worker process, and not in one that was forked there"
        )
    if get_native_id() != os.getpid():  # gettid(2): the main thread's is the process's
        raise RuntimeError(
            "gworker.computing() works in the thread of the event loop, not in another one"
        )


def _compute(work: bytes) -> bytes:
    from concurrent.futures.process import BrokenProcessPool

    from gworker.process.computing_child import compute

    try:
        future = _pool().submit(compute, work)
    except BrokenProcessPool:  # a process has died, and the others have ended by themselves
        _own.pool = None
        future = _pool().submit(compute, work)
    try:
        return future.result()
    finally:
        future.cancel()  # if the caller has no time left


def _pool() -> ProcessPoolExecutor:
    if _own.pool is None:
        from concurrent.futures import ProcessPoolExecutor

        from gworker.process.computing_child import Context, begin

        processes = _own.processes or len(os.sched_getaffinity(0))
        arguments = (_own.title, os.getpid(), _script())
        _own.pool = ProcessPoolExecutor(processes, Context(), begin, arguments)
    return _own.pool


def _script() -> str | None:
    # The target, if it is loaded as `__main__`: its functions are known by that name only.
    main = sys.modules["__main__"]
    return main.__file__ if main.__spec__ is not None and main.__spec__.name == "__main__" else None
