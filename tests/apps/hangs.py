"""A callback that never gives way."""

import time

from gworker import Worker

text = Worker("text://127.0.0.1:0")


@text.on_message
def slowly(connection, line):
    end = time.monotonic() + 1000
    while time.monotonic() < end:  # blocks the whole process
        pass
