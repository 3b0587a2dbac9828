"""SIGUSR2 in a worker process: write the stacks of all threads and greenlets to the log.

Two handlers in a chain: faulthandler's is C and works even when Python code cannot run any more
(a call into C that does not come back); the Python one lists every greenlet, if it gets to run.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from types import FrameType

from gevent.util import format_run_info


def install_dump(descriptor: int) -> None:
    """Let SIGUSR2 write to `descriptor`."""

    def dump(_number: int, _frame: FrameType | None) -> None:
        # The stubs say that it returns nothing; it returns the lines (gevent.util).
        lines: list[str] = format_run_info(thread_stacks=False)  # type: ignore[func-returns-value,assignment]
        text = "\n".join(lines)
        os.write(descriptor, text.encode(errors="backslashreplace") + b"\n")

    signal.signal(signal.SIGUSR2, dump)
    faulthandler.register(signal.SIGUSR2, file=descriptor, all_threads=True, chain=True)
