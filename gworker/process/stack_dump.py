"""SIGUSR2 in a worker process: write the stacks of all threads and greenlets to the log.

Two writers, because what can still run depends on what the process is doing:

- faulthandler's handler is C and always runs: it writes the Python frames of every thread, and of
  the main thread so the greenlet that runs now.
- A thread of the system writes the stack of every greenlet. It runs whatever the main thread does,
  but for a call into C that keeps the interpreter's lock (a regular expression, a sum): then
  faulthandler's frames are all there is.

A process that crashes (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL) writes its Python frames as well.
"""

from __future__ import annotations

import faulthandler
import gc
import mmap
import os
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gworker.logs import setup
from gworker.process.import_tracker import FOREIGN, is_watched

if TYPE_CHECKING:
    from greenlet import greenlet

MOST = 100  # greenlets that are shown

_kept: list[mmap.mmap] = []  # the kernel uses it for as long as the process lives
_pipe: list[int] = []  # both ends of the pipe by which the thread learns of signals


def install_early(descriptor: int) -> None:
    """Write the frames of threads on SIGUSR2 and at a crash. First of all, before gevent is
    imported."""
    faulthandler.enable(file=descriptor, all_threads=True)
    faulthandler.register(signal.SIGUSR2, file=descriptor, all_threads=True, chain=True)
    _enlarge_signal_stack()


def _enlarge_signal_stack() -> None:
    """Give signal handlers a stack on which many of them fit (sigaltstack(2)).

    faulthandler makes one for two, and Python's own handlers then use it too. The kernel delivers
    pending signals all at once, one handler on top of the other, each with the registers of the
    processor (11 KB with AMX): half a dozen for a process that was not running would be a SIGSEGV.
    """
    import ctypes

    memory = mmap.mmap(-1, 512 * 1024)  # what is not used costs no memory
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    stack = struct.pack("PiN", address, 0, len(memory))  # stack_t
    if ctypes.CDLL(None).sigaltstack(stack, None) == 0:
        _kept.append(memory)


def install_dump(descriptor: int, on_dump: Callable[[str], object]) -> None:
    """Let SIGUSR2 write the greenlets to the log too, and then call `on_dump`, in another thread,
    with the `position` of the greenlet that calls this.

    After monkey.patch_all(), and before the user's code is loaded: that may hang.
    """
    from gevent import get_hub
    from gevent.monkey import get_original
    from greenlet import getcurrent

    main, thread = getcurrent(), get_original("_thread", "get_ident")()
    frozen = [main, get_hub()]

    def write_dumps(source: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # the main thread's
        while numbers := os.read(source, 64):
            if signal.SIGUSR2 in numbers:
                # faulthandler crashes when it reads frames of a thread that runs, as this one does
                # now. A signal that comes meanwhile gets a dump of greenlets only.
                faulthandler.unregister(signal.SIGUSR2)
                try:
                    others = [one for one in _greenlets() if one not in frozen]
                    setup.write_past_logging("Greenlets:\n" + _stacks(frozen + others))
                    on_dump(position(main, thread))
                finally:
                    register()

    def register() -> None:
        faulthandler.register(signal.SIGUSR2, file=descriptor, all_threads=True, chain=True)

    faulthandler.unregister(signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, lambda _number, _frame: None)
    register()
    source, sink = _pipe[:] = os.pipe()
    os.set_blocking(sink, False)
    # Python's handler in C writes the number there as the signal arrives, whatever the main thread
    # does.
    signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
    get_original("_thread", "start_new_thread")(write_dumps, (source,))


def uninstall() -> None:
    """In a process that user code has forked: SIGUSR2 ends it, as any program."""
    faulthandler.unregister(signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    for descriptor in _pipe:  # not os.close: that is gevent's, and waits for the event loop
        os.closerange(descriptor, descriptor + 1)
    _pipe.clear()


def position(main: greenlet, thread: int) -> str:
    """The line of the user's own code at which greenlet `main` is, as `/srv/app/models.py:12`; else
    of a library; else "". From any thread, also if `main` waits and another greenlet runs.

    thread: the identifier of its thread.
    """
    frame = main.gr_frame or sys._current_frames().get(thread)
    # A file may be "<string>", which is no place.
    lines = [(each.f_code.co_filename, number) for each, number in traceback.walk_stack(frame)]
    own = [line for line in lines if is_watched(line[0])]
    libraries = [
        (path, number)
        for path, number in lines
        if os.path.isabs(path)
        and not path.startswith(FOREIGN)
        and "gevent" not in path.split(os.sep)
    ]
    return next((f"{path}:{number}" for path, number in own + libraries), "")


def running_stacks() -> str:
    """The stack of each greenlet that is in the middle of something: neither the hub, nor the main
    one, nor the one that asks."""
    from gevent.hub import Hub
    from greenlet import getcurrent

    asks = getcurrent()
    found = [one for one in _greenlets() if one.parent is not None and one is not asks]
    return _stacks(one for one in found if not isinstance(one, Hub))


def _greenlets() -> list[greenlet]:
    # Without what was there before `gc.freeze`.
    from greenlet import greenlet

    return [one for one in gc.get_objects() if isinstance(one, greenlet)]


def _stacks(greenlets: Iterable[greenlet]) -> str:
    from gworker.connection.greenlet_pool import GreenletPool

    frames = [(one, one.gr_frame) for one in greenlets]
    found = [
        f"{one!r}\n" + "".join(traceback.format_stack(frame))
        for one, frame in frames
        if frame is not None and not GreenletPool.parks(frame)
    ]
    more = f"\n… and {len(found) - MOST} more\n" if len(found) > MOST else ""
    return "\n".join(found[:MOST]) + more
