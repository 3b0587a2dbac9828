"""The pool of greenlets, in a process of its own because it needs a hub."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import contextvars
import weakref
import gevent
from gevent import get_hub
from gevent.event import Event
from gworker.connection.greenlet_pool import KEEP, GreenletPool

variable = contextvars.ContextVar("variable", default=None)
pool, done = GreenletPool(), []

class Job:
    def __init__(self, work):
        self.work = work
    def run(self, me):
        self.work(me)

def start(work):
    pool.start_soon(Job(work))
    gevent.sleep(0)

# one greenlet serves many jobs, each in a fresh context
start(lambda me: (done.append(me), variable.set(1)))
start(lambda me: (done.append(me), done.append(variable.get())))
assert done[0] is done[1] and done[2] is None, done
assert pool.active == 0 and pool.created == 1

# what a greenlet has done, it does not keep
gone = weakref.ref(first := Job(lambda me: None))
GreenletPool().start_soon(first)
gevent.sleep(0)
del first
assert gone() is None

# a Timeout that was left behind strikes a parked greenlet: the next job runs all the same
start(lambda me: gevent.Timeout(0.01).start())
gevent.sleep(0.05)
ran = []
start(lambda me: ran.append(1))
assert ran == [1] and pool.active == 0, (ran, pool.active)

# somebody switches to a parked greenlet
get_hub().loop.run_callback(done[0].switch, "nonsense")
gevent.sleep(0)
start(lambda me: ran.append(2))
assert ran == [1, 2] and pool.active == 0

# a peak is given back
gate = Event()
for _ in range(KEEP + 10):
    start(lambda me: gate.wait())
assert pool.active == KEEP + 10
gate.set()
gevent.sleep(0.1)
assert pool.active == 0 and pool.created == KEEP, pool.created
print("ok")
"""


def test_pool() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "ok\n", done.stderr
