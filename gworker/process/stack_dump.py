"""SIGUSR2 in a worker process: write the stacks of all threads and greenlets to the log.

Three writers, because what can still run depends on what the process is doing:

- faulthandler's handler is C and always runs: it writes the Python frames of every thread, and of
  the main thread so the greenlet that runs now.
- A Python handler lists every greenlet. It runs when the main thread comes back to the interpreter:
  at once in a loop that waits or a Python loop that spins, never in a call into C that does not
  return.
- A thread of the system lists the greenlets if that handler has not: a call into C that releases
  the interpreter's lock (a C library that waits for a network) lets it run. One that keeps the lock
  (a regular expression, a sum) does not, and then faulthandler's frames are all there is.

A process that crashes (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL) writes its Python frames as well.
"""

from __future__ import annotations

import faulthandler
import gc
import mmap
import os
import signal
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from gworker.logs import setup

HANDLER_SECONDS = 0.3
"""How long the thread waits for the handler before it writes itself; the arbiter kills after a
second."""

SIGNAL_STACK = 512 * 1024
"""Bytes; what is not used costs no memory."""

_kept: list[mmap.mmap] = []
"""The stack of signal handlers, which the kernel uses for as long as the process lives."""

_pipes: list[int] = []
"""Both ends of the pipe by which the thread hears of signals."""

MOST = 100
"""Greenlets of which `running_stacks` tells."""


def install_early(descriptor: int) -> None:
    """Before anything else of a child: frames of threads on SIGUSR2 and when it crashes. Imports no
    gevent."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        faulthandler.enable(file=descriptor, all_threads=True)
        faulthandler.register(signal.SIGUSR2, file=descriptor, all_threads=True, chain=True)
        _enlarge_signal_stack()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _enlarge_signal_stack() -> None:
    """Give signal handlers a stack on which many of them fit (sigaltstack(2)).

    faulthandler makes one for two, and Python's own handlers then use it too. The kernel delivers
    what is pending all at once, one handler on top of the other, each with the registers of the
    processor (11 KB with AMX): half a dozen signals for a process that was off the processor would
    be a SIGSEGV.
    """
    import ctypes

    class Stack(ctypes.Structure):
        _fields_ = (
            ("pointer", ctypes.c_void_p),
            ("flags", ctypes.c_int),
            ("size", ctypes.c_size_t),
        )

    memory = mmap.mmap(-1, SIGNAL_STACK)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    stack = Stack(address, 0, SIGNAL_STACK)
    if ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0:
        _kept.append(memory)


def install_dump(descriptor: int, tell: Callable[[], object]) -> None:
    """Let SIGUSR2 write the greenlets to `descriptor` too, and then call `tell`, perhaps in another
    thread.

    After monkey.patch_all(), and before the user's code is loaded: that may hang.
    """
    written_at = 0.0

    def dump(_number: int = 0, _frame: FrameType | None = None) -> None:
        nonlocal written_at
        written_at = time.monotonic()
        setup.write_past_logging(greenlet_stacks())
        tell()

    def watchdog(source: int) -> None:
        signal.pthread_sigmask(
            signal.SIG_BLOCK, signal.valid_signals()
        )  # they are for the main thread
        sleep = _unpatched("time", "sleep")
        while numbers := os.read(source, 64):
            read_at = time.monotonic()
            sleep(HANDLER_SECONDS)
            if signal.SIGUSR2 in numbers and written_at < read_at - HANDLER_SECONDS:
                dump()

    faulthandler.unregister(signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, dump)
    faulthandler.register(signal.SIGUSR2, file=descriptor, all_threads=True, chain=True)
    source, sink = os.pipe()
    _pipes[:] = source, sink
    os.set_blocking(sink, False)
    # Python's handler in C writes the number there as the signal arrives, whatever the main thread
    # does.
    signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
    _unpatched("_thread", "start_new_thread")(watchdog, (source,))


def uninstall() -> None:
    """In a process that user code has forked: SIGUSR2 ends it, as any program, and the thread is
    not asked."""
    faulthandler.unregister(signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    for descriptor in _pipes:
        os.closerange(
            descriptor, descriptor + 1
        )  # os.close is gevent's, and waits for the event loop
    _pipes.clear()


def _unpatched(module: str, name: str) -> Any:
    from gevent.monkey import get_original

    return get_original(module, name)


def greenlet_stacks() -> str:
    """Every greenlet and where it stands, as gevent tells it."""
    from gevent.util import format_run_info

    # The stubs say that it returns nothing; it returns the lines (gevent.util).
    lines: list[str] = format_run_info(thread_stacks=False)  # type: ignore[func-returns-value,assignment]
    return "\n".join(lines) + "\n"


def running_stacks() -> str:
    """Where each greenlet stands that is in the middle of something: not the hub, and not the
    parked ones."""
    from gevent.hub import Hub
    from greenlet import getcurrent, greenlet

    from gworker.connection.greenlet_pool import GreenletPool

    idle = {GreenletPool._work.__code__}
    found = []
    for one in gc.get_objects():
        if (
            isinstance(one, greenlet)
            and not isinstance(one, Hub)
            and one is not getcurrent()
            and one.parent is not None
        ):
            frame = one.gr_frame
            if frame is not None and frame.f_code not in idle:
                found.append(f"{one!r}\n" + "".join(traceback.format_stack(frame)))
    more = f"\n… and {len(found) - MOST} more\n" if len(found) > MOST else ""
    return "\n".join(found[:MOST]) + more
