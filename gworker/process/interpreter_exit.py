"""How a process that has run user code leaves: as the interpreter does it, but within a deadline.

Pools of threads and processes (`concurrent.futures`) are stopped first, as threading._shutdown does
it, then what was registered with atexit is called. What the process has started may go on until the
deadline, and ends there: no other process inherits it. The arbiter ends what is left when this
process is killed (`master.orphans`).
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import gevent

from gworker.system import child_processes

log = logging.getLogger("gworker")

LEAST_SECONDS = 0.3  # what all of it may take, however late it is

TERM_SECONDS = 0.5  # between SIGTERM and SIGKILL, for what has not ended by itself

# Code at exit may pass the deadline by this: if it waits for a child, it sees that end.
ENDING_SECONDS = TERM_SECONDS + 0.3

POLL_SECONDS = 0.03

NOTICE_SECONDS = 1.0  # after that the log names what the process waits for


def leave(until: Callable[[], float]) -> None:
    """Do what Python does at exit, and wait until what was started here has ended.

    until: when that is ended, in monotonic seconds; called repeatedly, since a quick stop may
    follow.
    """
    least = time.monotonic() + LEAST_SECONDS
    ender = gevent.spawn(_end_children, lambda: max(least, until()))
    notice = gevent.spawn_later(NOTICE_SECONDS, _log_what_runs)
    # What threading._shutdown calls first. The threads of users are not waited for.
    stop_pools: list[Callable[[], object]] = getattr(threading, "_threading_atexits", [])
    for call in (*reversed(stop_pools), atexit._run_exitfuncs):
        left = until() + ENDING_SECONDS - time.monotonic()
        end = gevent.Timeout.start_new(max(LEAST_SECONDS, left))
        try:
            call()
        except BaseException as error:
            if error is not end:
                log.exception("at exit")
        finally:
            end.close()
    while _running():
        gevent.sleep(POLL_SECONDS)
    gevent.killall([ender, notice], block=False)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def _running() -> set[int]:
    """The processes that were started here and have not ended.

    Without the helpers of multiprocessing, which end with this process, and those with a session of
    their own, which are meant to outlive it.
    """
    found = child_processes.children(os.getpid()).difference(_helpers())
    return {pid for pid in found if not child_processes.has_left(pid)}


def _helpers() -> list[int | None]:
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    server = sys.modules.get("multiprocessing.forkserver")
    return [
        getattr(getattr(tracker, "_resource_tracker", None), "_pid", None),
        getattr(getattr(server, "_forkserver", None), "_forkserver_pid", None),
    ]


def _log_what_runs() -> None:
    if running := _running():
        log.info(
            "what was started here may go on until the deadline: %s",
            ", ".join(map(child_processes.describe, running)),
        )


def _end_children(until: Callable[[], float]) -> None:
    while time.monotonic() < until():
        gevent.sleep(POLL_SECONDS)
    found = child_processes.descendants(os.getpid()).difference(_helpers())
    running = {pid: child_processes.born(pid) for pid in found if not child_processes.has_left(pid)}
    if not running:
        return
    log.warning(
        "the time is up, this is ended: %s",
        ", ".join(map(child_processes.describe, sorted(running))),
    )
    _send(signal.SIGTERM, running)
    end = time.monotonic() + TERM_SECONDS
    while _running() and time.monotonic() < end:
        gevent.sleep(POLL_SECONDS)
    _send(signal.SIGKILL, running)


def _send(number: signal.Signals, processes: Mapping[int, str]) -> None:
    for pid, born in processes.items():
        if child_processes.born(pid) == born:  # else the number is another process's by now
            # It has just ended, or has become another user.
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
