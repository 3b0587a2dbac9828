"""`gworker.blocking`: the loop goes on while C code waits."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import time
from types import SimpleNamespace

import gevent
from scenario_process import raises, run

from gworker import blocking
from gworker.app import worker
from gworker.process import thread_pool

sleep = monkey.get_original("time", "sleep")
"""As a C library waits: gevent knows nothing of it."""

ident = monkey.get_original("threading", "get_ident")


def test_others_run_while_threads_of_their_own_wait():
    ticks = []
    ticker = gevent.spawn(lambda: [ticks.append(time.sleep(0.005)) for _ in range(10_000)])
    began = time.monotonic()
    jobs = [gevent.spawn(blocking, lambda: (sleep(0.3), ident())[1]) for _ in range(5)]
    gevent.joinall(jobs)
    seconds = time.monotonic() - began
    ticker.kill()
    assert len(ticks) > 5, "others run meanwhile"
    assert seconds < 1.4, "five times 0.3 s, at once"
    assert len({job.value for job in jobs} - {ident()}) == 5, "each of them beside the loop's own"


def test_it_returns_and_raises_what_the_function_does():
    assert blocking(int, "ff", base=16) == 255
    with raises(ValueError, "invalid literal for int() with base 10: 'no number'"):
        blocking(int, "no number")


def test_what_is_no_function_is_refused_in_words():
    with raises(TypeError, "blocking(f, x), not blocking(f(x)); got None"):
        blocking(sleep(0))


def test_a_timeout_ends_the_wait():
    struck = []
    try:
        with gevent.Timeout(0.05):
            blocking(sleep, 0.3)
    except gevent.Timeout as timeout:
        struck.append(timeout)
    assert struck


def test_as_many_threads_as_the_worker_allows():
    thread_pool._pools.clear()
    worker.running.append((SimpleNamespace(options={"blocking_threads": 2}), None))
    busy, most = [], []

    def count():
        busy.append(1)
        most.append(len(busy))
        sleep(0.05)
        busy.pop()

    gevent.joinall([gevent.spawn(blocking, count) for _ in range(6)])
    assert max(most) <= 2
    assert len(most) == 6


run(globals())
