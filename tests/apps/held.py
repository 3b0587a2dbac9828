"""An event loop that is held for a third of a second, over and over, and for longer if it is asked
to."""

import time

import gevent

from gworker import Worker


def hold(seconds):
    """Compute."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def start(worker):
    def go_on():
        while True:
            hold(0.3)
            gevent.sleep(0.001)

    gevent.spawn(go_on)


always = Worker("text://127.0.0.1:0", name="always", on_worker_start=start)
asked = Worker(
    "text://127.0.0.1:0", name="asked", on_message=lambda connection, seconds: hold(float(seconds))
)

handlers = [always, asked]
