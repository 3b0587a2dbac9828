"""Taking descriptors out of the event loop's epoll set when the sockets behind them live on
elsewhere.

epoll(7) drops a descriptor by itself only when the last copy of the *open file description* is
closed. A listener that other processes go on serving, or a connection that was handed over, would
therefore keep waking the process that has closed it, and libev answers each such event for a
descriptor that it does not know by building its whole epoll set anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Any

from gevent import monkey

READ, WRITE = 1, 2
"""What a watcher of libev waits for: EV_READ, EV_WRITE (ev(3))."""


def forget(loop: Any, descriptors: Iterable[int]) -> None:
    """Take `descriptors`, still open and with their watchers stopped, out of `loop`'s epoll set."""
    try:
        copy = os.dup(loop.fileno())  # because the wrapper closes its descriptor when it goes
    except OSError:
        return  # there is none left: then it is as it would be without this
    epoll = monkey.get_original("select", "epoll").fromfd(copy)
    with contextlib.closing(epoll):
        for descriptor in descriptors:
            with contextlib.suppress(OSError):  # it was never waited for
                epoll.unregister(descriptor)
