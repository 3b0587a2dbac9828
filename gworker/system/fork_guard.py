"""A process that user code forks is not the process in which it was forked.

fork(2) copies everything: the event loop with its watchers, the sockets of all peers, the
listeners, the line to the arbiter. A copy that used them would answer the parent's peers, read its
orders, and hold its ports. So the copy lets go of all that is gworker's before `os.fork` has
returned in it, and nobody is told: a descriptor is closed, never shut down. What is the user's goes
on: gevent's loop, greenlets, sockets. Threads do not, as nowhere else: those that gevent has made
of greenlets stand still for good, and so do the handlers that were in the middle of something.

    guard(title, …)           from now on this process runs user code: what that forks is such a
                              copy
    on_fork(let_go)           `let_go()` is called in each copy, in the order in which they were
                              given
    end(error)                ends a copy in which control has come back to gworker; does nothing
                              anywhere else

What gworker itself forks is exempt: it does so in processes that are not guarded.

Programs that are executed (subprocess, multiprocessing with "spawn") lose the descriptors anyway:
they are all close-on-exec. Nothing is imported here that gevent patches.
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
from typing import Any, NoReturn
from weakref import WeakSet

from setproctitle import setproctitle

from gworker.system import signal_pipe

log = logging.getLogger("gworker")

FAILED = 70
"""The exit code of a copy that could not let go of what is its parent's (EX_SOFTWARE of
sysexits.h)."""


class _Guard:
    """What is known of this process and its forks."""

    def __init__(
        self, title: str, report: Callable[[str], None], flush: Callable[[], None]
    ) -> None:
        self.title = title
        self.report = report
        self.flush = flush
        self.is_copy = False
        self.let_go: list[Callable[[], None]] = []
        self.has_returned: Callable[[Any], bool] = lambda _greenlet: False
        self.silent: set[Any] = set()
        self.origin: Any = None
        """In a copy: the greenlet that has forked it."""
        self._mask: set[int | signal.Signals] = set()
        self.executing = 0
        """The thread that is just forking what executes a program at once: that lets go of
        everything by itself."""
        self._report: Any = None
        """What the hub does with errors."""

    def before(self) -> None:
        """A signal that arrived before the copy has let go of our handlers would be lost to it."""
        self._mask = signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        )

    def after_in_parent(self) -> None:
        """Go on as before."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def after_in_child(self) -> None:
        """Never half: a copy that kept some of it would do its parent harm."""
        if self.executing == _get_ident():  # which is the parent's
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            return
        try:
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
            return  # a copy of a copy has nothing left to let go of
        self.is_copy = True
        for step in self.let_go:
            step()
        self.let_go.clear()
        signal_pipe.restore()
        setproctitle(self.title)
        self._silence()
        self._watch_origin()

    def _silence(self) -> None:
        """Let none of `silent` go on, whatever switches to it: the parent goes on with it."""
        import greenlet

        self.silent.update(_threads)
        self.silent.discard(self.origin)
        if self.silent:
            greenlet.settrace(self._on_switch)

    def _on_switch(self, _event: str, greenlets: tuple[Any, Any]) -> None:
        """In the greenlet that was switched to. It stays in here for good."""
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
        """End with the greenlet that has forked: there is nothing for it to return to."""
        from gevent._hub_local import get_hub_if_exists

        hub: Any = get_hub_if_exists()
        if hub is None:
            return
        self._report, hub.handle_error = hub.handle_error, self._on_error
        if self.origin is hub.parent:
            return
        watcher = hub.loop.prepare(ref=False)
        _kept.append(watcher)
        watcher.start(self._look_at_origin, hub)

    def _on_error(self, context: Any, kind: Any, error: Any, trace: Any) -> None:
        """What has left a greenlet, or a callback of the event loop. Some of it ends any
        program."""
        from gevent import get_hub

        hub = get_hub()
        if self.origin is hub or isinstance(error, hub.SYSTEM_ERROR):
            finish(error)
        self._report(context, kind, error, trace)

    @property
    def is_over(self) -> bool:
        """True if the greenlet that has forked has nothing left to do."""
        return bool(self.origin.dead) or self.has_returned(self.origin)

    def _look_at_origin(self, hub: Any) -> None:
        """Before the event loop sleeps."""
        if self.origin is hub or self.is_over:
            finish(getattr(self.origin, "exception", None))


_guards: list[_Guard] = []
"""The one of this process."""

_kept: list[Any] = []
"""Watchers that nobody else holds."""

_threads: WeakSet[Any] = WeakSet()
"""The greenlets of `threading.Thread`."""


def guard(title: str, report: Callable[[str], None], flush: Callable[[], None]) -> None:
    """From now on this process runs user code. Once, after monkey-patching.

    title: of the processes that it forks. report: logs without taking a lock. flush: writes what
    the log still holds.
    """
    made = _Guard(title, report, flush)
    _guards[:] = [made]
    _note_threads()
    os.register_at_fork(
        before=made.before, after_in_parent=made.after_in_parent, after_in_child=made.after_in_child
    )


def _note_threads() -> None:
    """threading itself does not tell which greenlet a thread is."""
    import threading

    from greenlet import getcurrent

    thread: Any = threading.Thread  # whose start typeshed does not list
    begin = thread._bootstrap

    def noted(self: Any) -> None:
        _threads.add(getcurrent())
        begin(self)

    thread._bootstrap = noted


def to_execute(fork: Callable[[], int]) -> Callable[[], int]:
    """`fork` for what executes another program at once. With thousands of connections it is much
    quicker."""

    def fork_to_execute() -> int:
        for each in _guards:
            each.executing = _get_ident()
        try:
            return fork()
        finally:
            for each in _guards:
                each.executing = 0

    return fork_to_execute


def on_fork(let_go: Callable[[], None]) -> None:
    """Call `let_go` in each process that user code forks. It must neither wait, nor log, nor
    shut a socket down."""
    for each in _guards:
        each.let_go.append(let_go)


def silence(greenlets: Iterable[Any], has_returned: Callable[[Any], bool]) -> None:
    """In a copy: none of `greenlets` goes on here. has_returned: true if a greenlet has done
    what it was taken for."""
    for each in _guards:
        each.silent.update(greenlets)
        each.has_returned = has_returned


def is_copy() -> bool:
    """True in a process that user code has forked."""
    return any(each.is_copy for each in _guards)


def end(error: BaseException | None = None) -> None:
    """Control is back in gworker: in a copy, end it, as Python ends a program that `error` escapes
    from.

    In other processes nothing happens, nor in a copy if it is another greenlet than that which has
    forked, or the main
    one: the copy has made it itself, and goes on.
    """
    if is_copy():
        from greenlet import getcurrent

        current = getcurrent()
        if current is _guards[0].origin or current.parent is None:
            finish(error)


def finish(error: BaseException | None) -> NoReturn:
    """End a copy, without what was registered with atexit: that is the parent's to do."""
    from gevent.exceptions import LoopExit

    if (
        isinstance(error, LoopExit) and _guards[0].is_over
    ):  # the loop has nothing left to do, as it should be
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
    """As sys.exit does it: None is success, what is no number is printed, and a failure."""
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _waited_for(target: Any) -> Iterator[Any]:
    """The watchers that would wake the greenlet `target` over and over: of its Waiter, and of
    select and poll."""
    from gevent.hub import Waiter

    for waiter in gc.get_referrers(target):
        if isinstance(waiter, Waiter):
            for holder in gc.get_referrers(waiter):
                yield from filter(_is_active, gc.get_referrers(holder))
    frame = target.gr_frame or sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("gevent."):
            for value in list(frame.f_locals.values()):
                yield from filter(_is_active, value if isinstance(value, list) else ())
        frame = frame.f_back


def _is_active(thing: Any) -> bool:
    from gevent.core import io

    return isinstance(thing, io) and thing.active
