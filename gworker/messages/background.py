"""Work beside the event loop and the broker's reader."""

from __future__ import annotations

import _thread
from collections.abc import Callable


def in_background(work: Callable[..., object], *arguments: object) -> None:
    """Run `work` in a thread, or greenlet, of its own.

    `threading.Thread.start` waits until it runs, which nothing may do in the event loop.
    """
    _thread.start_new_thread(work, arguments)
