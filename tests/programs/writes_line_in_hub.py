"""Writes a line of the log in the hub of a patched process."""

import os

import gevent
from gevent import get_hub, monkey

import gworker.logs.nonblocking

monkey.patch_all()  # what has been imported before is patched, too

written = []
descriptor = os.open(os.devnull, os.O_WRONLY)
get_hub().loop.run_callback(
    lambda: written.append(gworker.logs.nonblocking.LineWriter(descriptor).write(b"line\n"))
)
gevent.sleep(0.01)
print(written)
