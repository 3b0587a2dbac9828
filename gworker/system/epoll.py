"""Removing a listener from the event loop's epoll set when other processes go on with it.

epoll(7) drops a descriptor by itself only when the last copy of the *open file description* is
closed. A listener that other processes serve would go on waking the process that has closed it, and
libev answers each event for an unknown descriptor by building its whole epoll set again.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gworker.system.event_loop import Loop

READ, WRITE = 1, 2  # what a watcher of libev waits for: EV_READ, EV_WRITE (ev(3))


def forget(loop: Loop, descriptor: int) -> None:
    """Remove `descriptor`, still open and with its watcher stopped, from `loop`'s epoll set."""
    from gevent import monkey  # the arbiter preloads modules that import this one, without gevent

    own = loop.fileno()
    assert own is not None
    try:
        copy = os.dup(own)  # the wrapper below closes its descriptor
    except OSError:
        return  # no descriptor is free: some needless wake-ups follow
    epoll = monkey.get_original("select", "epoll").fromfd(copy)
    with contextlib.closing(epoll), contextlib.suppress(OSError):  # it was never waited for
        epoll.unregister(descriptor)
