"""A process that user code forks must not act as the worker process that it is a copy of.

fork(2) copies everything: the event loop with its watchers, the sockets of all peers, the
listeners, the channel to the arbiter. A copy that used them would answer the parent's peers, read
its commands, and hold its ports. So the copy closes all that is gworker's before `os.fork` returns
in it, and no peer notices: a descriptor is closed, never shut down. What is the user's goes on:
gevent's loop, greenlets, sockets. Threads do not, as after any fork: those that gevent has made of
greenlets never run again, nor do handlers that were interrupted.

    guard(title, …)    from now on this process runs user code, and its forks are such copies
    on_fork(release)   `release()` is called in each copy, in the order of these calls
    end(error)         ends a copy in which control has come back to gworker; elsewhere a no-op

What gworker itself forks is exempt: it does so in processes that are not guarded.

Programs that are executed (subprocess, multiprocessing with "spawn") lose the descriptors anyway:
they are all close-on-exec. gevent is imported inside functions: it must not be in the arbiter,
which imports this, nor before it has patched.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import traceback
from _thread import get_ident as _get_ident
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TypeGuard
from weakref import WeakSet

from setproctitle import setproctitle

from gworker.system import signal_pipe

if TYPE_CHECKING:
    from gevent.hub import Hub
    from greenlet import greenlet

    from gworker.system.event_loop import IoWatcher

log = logging.getLogger("gworker")

# The exit code of a copy that could not release what is its parent's (EX_SOFTWARE, sysexits.h).
FAILED = 70


class _Guard:
    # origin: in a copy, the greenlet that has forked it.
    def __init__(
        self, title: str, report: Callable[[str], None], flush: Callable[[], None]
    ) -> None:
        self.begin(title, report, flush)

    def begin(self, title: str, report: Callable[[str], None], flush: Callable[[], None]) -> None:
        self.title = title
        self.report = report
        self.flush = flush
        self.is_copy = False
        self.releases: list[Callable[[], None]] = []
        self.has_returned: Callable[[greenlet], bool] = lambda _greenlet: False
        self.silent: set[greenlet] = set()
        self.origin: greenlet
        self._report: Callable[..., None]
        self._mask: set[int | signal.Signals] = set()

    def before(self) -> None:
        # Block signals until the copy has its own handlers, or it would lose them.
        self._mask = signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        )

    def after_in_parent(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def after_in_child(self) -> None:
        # Release all, or end: a copy that kept a part could harm its parent.
        try:
            if _get_ident() not in _unguarded:  # in a copy it is the parent's
                self._become_copy()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        except BaseException:
            self.report(f"{self.title} cannot begin\n{traceback.format_exc()}")
            os._exit(FAILED)

    def _become_copy(self) -> None:
        from gevent import reinit
        from greenlet import getcurrent

        self.origin = getcurrent()
        reinit()  # first of all: until then the loop's epoll set is the parent's
        if self.is_copy:
            return  # a copy of a copy has nothing left to release
        self.is_copy = True
        for release in self.releases:
            release()
        self.releases.clear()
        signal_pipe.restore()
        setproctitle(self.title)
        self._silence()
        self._watch_origin()

    def _silence(self) -> None:
        # Prevent the greenlets in `silent` from running: the parent goes on with them.
        import greenlet

        self.silent.update(_threads)
        self.silent.discard(self.origin)
        if self.silent:
            greenlet.settrace(self._on_switch)

    def _on_switch(self, _event: str, greenlets: tuple[greenlet, greenlet]) -> None:
        # In the greenlet that was switched to. One of `silent` never leaves this method.
        from gevent import get_hub

        target = greenlets[1]
        if target not in self.silent:
            return
        self.silent.discard(target)  # a switch to it comes back below, not here
        while True:
            for watcher in list(_waited_for(target)):
                watcher.stop()
            with suppress(BaseException):  # a Timeout, say
                get_hub().switch()

    def _watch_origin(self) -> None:
        # End with the greenlet that has forked: there is nothing for it to return to.
        from gevent._hub_local import get_hub_if_exists

        hub: Hub | None = get_hub_if_exists()
        if hub is None:
            return
        self._report = hub.handle_error
        hub.handle_error = self._on_error  # type: ignore[assignment,method-assign]
        if self.origin is hub.parent:
            return
        self._watcher = hub.loop.prepare(ref=False)
        self._watcher.start(self._look_at_origin, hub)

    def _on_error(self, context: object, kind: object, error: object, trace: object) -> None:
        # An error has left a greenlet, or a callback of the event loop.
        from gevent import get_hub

        hub = get_hub()
        if isinstance(error, BaseException) and (
            self.origin is hub or isinstance(error, hub.SYSTEM_ERROR)
        ):
            finish(error)  # as it ends any program
        self._report(context, kind, error, trace)

    @property
    def is_over(self) -> bool:
        # True if the greenlet that has forked has nothing left to do.
        return self.origin.dead or self.has_returned(self.origin)

    def _look_at_origin(self, hub: Hub) -> None:
        if self.origin is hub or self.is_over:
            finish(getattr(self.origin, "exception", None))


_guards: list[_Guard] = []  # the one of this process
# The threads that are just forking a child that releases nothing.
_unguarded: set[int] = set()
_threads: WeakSet[greenlet] = WeakSet()  # those of `threading.Thread`


def guard(title: str, report: Callable[[str], None], flush: Callable[[], None]) -> None:
    """From now on this process runs user code. Once, after monkey-patching.

    title: of the processes that it forks. report: logs without taking a lock. flush: writes what
    the log still holds.
    """
    if _guards:  # the process was forked from a mold, which has registered it
        _guards[0].begin(title, report, flush)
        return
    made = _Guard(title, report, flush)
    _guards[:] = [made]
    _note_threads()
    os.register_at_fork(
        before=made.before, after_in_parent=made.after_in_parent, after_in_child=made.after_in_child
    )


def _note_threads() -> None:
    # Collect in `_threads` the greenlet of each thread, which threading does not tell.
    import threading

    from greenlet import getcurrent

    begin = threading.Thread._bootstrap  # type: ignore[attr-defined]

    def noted(self: threading.Thread) -> None:
        _threads.add(getcurrent())
        begin(self)

    threading.Thread._bootstrap = noted  # type: ignore[attr-defined]


def unguarded(fork: Callable[[], int]) -> Callable[[], int]:
    """`fork` for a child that releases nothing: it executes another program at once, or it is
    gworker's own.

    With thousands of connections it is much quicker.
    """

    def fork_unguarded() -> int:
        _unguarded.add(_get_ident())
        try:
            return fork()
        finally:
            _unguarded.discard(_get_ident())

    return fork_unguarded


def on_fork(release: Callable[[], None]) -> None:
    """Call `release` in each process that user code forks. It must neither wait, nor log, nor
    shut a socket down."""
    for each in _guards:
        each.releases.append(release)


def silence(greenlets: Iterable[greenlet], has_returned: Callable[[greenlet], bool]) -> None:
    """In a copy: none of `greenlets` runs on. has_returned: true if the task of a greenlet is
    done."""
    for each in _guards:
        each.silent.update(greenlets)
        each.has_returned = has_returned


def is_copy() -> bool:
    """True in a process that user code has forked."""
    return any(each.is_copy for each in _guards)


def end(error: BaseException | None = None) -> None:
    """Control is back in gworker: in a copy, end the process, as Python does when `error` escapes.

    A no-op in other processes, and in a greenlet that the copy has made itself: neither the one
    that has forked nor the main one.
    """
    if is_copy():
        from greenlet import getcurrent

        current = getcurrent()
        if current is _guards[0].origin or current.parent is None:
            finish(error)


def finish(error: BaseException | None) -> NoReturn:
    """End a copy. Functions registered with atexit are the parent's, and are not called."""
    from gevent.exceptions import LoopExit

    # The loop has nothing left to do: as it should be, if the greenlet that has forked is done.
    if isinstance(error, LoopExit) and _guards[0].is_over:
        error = getattr(_guards[0].origin, "exception", None)
    code = 0
    if isinstance(error, SystemExit):
        code = _exit_code(error)
    elif error is not None:
        code = 1
        log.error("a process that was forked here has failed", exc_info=error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    _guards[0].flush()
    os._exit(code)


def _exit_code(error: SystemExit) -> int:
    # As of sys.exit: None is success; what is no number is printed, and a failure.
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _waited_for(target: greenlet) -> Iterator[IoWatcher]:
    # The watchers that would wake `target` again and again: of its Waiter, and of select and
    # poll.
    from gevent.hub import Waiter

    for waiter in gc.get_referrers(target):
        if isinstance(waiter, Waiter):
            for holder in gc.get_referrers(waiter):
                yield from filter(_is_active, gc.get_referrers(holder))
    frame: FrameType | None = target.gr_frame or sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("gevent."):
            for value in list(frame.f_locals.values()):
                yield from filter(_is_active, value if isinstance(value, list) else ())
        frame = frame.f_back


def _is_active(thing: object) -> TypeGuard[IoWatcher]:
    from gevent.core import io

    return isinstance(thing, io) and bool(thing.active)
