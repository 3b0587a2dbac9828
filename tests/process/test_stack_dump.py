"""The stacks in the log. Those of a process that hangs: integration/test_failures.py."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from greenlet import getcurrent

from gworker.process.stack_dump import position

PROGRAM = """from gevent import monkey; monkey.patch_all()
import os, signal, time; from gworker.logs import setup; from gworker.process import stack_dump
def note(_):
    dumps.append(os.kill(os.getpid(), 0 if dumps else signal.SIGUSR2))
    signal.sigtimedwait([], 0.5)  # until the signal has come
dumps = []; setup.configure(2, "info", "text")
stack_dump.install_early(2); stack_dump.install_dump(2, note)
os.kill(os.getpid(), signal.SIGUSR2)
while len(dumps) < 2: time.sleep(0.01)
"""


@pytest.mark.timeout(30)
def test_faulthandler_does_not_read_the_frames_of_the_thread_that_writes_a_dump() -> None:
    """A signal that comes during a dump: faulthandler would crash sooner or later."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stderr.count("Greenlets:") == 2
    assert done.stderr.count("Current thread") == 1


HERE = Path(__file__)


def test_the_position_is_that_of_a_greenlet_also_for_another_thread() -> None:
    main, thread = getcurrent(), threading.get_ident()
    found: list[str] = []
    other = threading.Thread(target=lambda: found.append(position(main, thread)))
    other.start()
    other.join()
    (line,) = found
    name, _, number = line.rpartition(":")
    assert name == str(HERE)
    assert "other." in HERE.read_text().splitlines()[int(number) - 1]
