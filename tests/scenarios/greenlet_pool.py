"""The pool of greenlets: what it reuses, and what it does not keep."""

from __future__ import annotations

import contextvars
import weakref

import gevent
from gevent import get_hub
from gevent.event import Event
from scenario_process import run

from gworker.connection.greenlet_pool import KEEP, GreenletPool

variable = contextvars.ContextVar("variable", default=None)


class Job:
    def __init__(self, work):
        self.work = work

    def run(self, me):
        self.work(me)


def start(pool, work):
    pool.start_soon(Job(work))
    gevent.sleep(0)


def parked():
    """A pool with one greenlet, which waits for a job."""
    pool, done = GreenletPool(), []
    start(pool, done.append)
    return pool, done[0]


def test_one_greenlet_serves_many_jobs_each_in_a_fresh_context():
    pool, done = GreenletPool(), []
    start(pool, lambda me: (done.append(me), variable.set(1)))
    start(pool, lambda me: (done.append(me), done.append(variable.get())))
    assert done[0] is done[1]
    assert done[2] is None
    assert pool.active == 0
    assert pool.created == 1


def test_what_a_greenlet_has_done_it_does_not_keep():
    pool = GreenletPool()
    job = Job(lambda me: None)
    gone = weakref.ref(job)
    pool.start_soon(job)
    gevent.sleep(0)
    del job
    assert gone() is None


def test_a_timeout_that_was_left_behind_strikes_no_later_job():
    pool, ran = GreenletPool(), []
    start(pool, lambda me: gevent.Timeout(0.01).start())
    gevent.sleep(0.05)
    start(pool, lambda me: ran.append(1))
    assert ran == [1]
    assert pool.active == 0


def test_a_switch_to_a_parked_greenlet_does_no_harm():
    pool, greenlet = parked()
    ran = []
    get_hub().loop.run_callback(greenlet.switch, "nonsense")
    gevent.sleep(0)
    start(pool, lambda me: ran.append(1))
    assert ran == [1]
    assert pool.active == 0


def test_a_peak_is_given_back():
    pool, gate = GreenletPool(), Event()
    for _ in range(KEEP + 10):
        start(pool, lambda me: gate.wait())
    assert pool.active == KEEP + 10
    gate.set()
    gevent.sleep(0.1)
    assert pool.active == 0
    assert pool.created == KEEP


run(globals())
