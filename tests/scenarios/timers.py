"""Timers: when they run, what ends them, and what their callbacks may do."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import contextvars
import logging
import time
from contextlib import contextmanager
from time import monotonic

from scenario_process import raises, run

from gworker.connection.greenlet_pool import GreenletPool
from gworker.ipc.scoreboard import Column, Scoreboard
from gworker.process import timer as timer_module
from gworker.process.timer import Timer, timers

board = Scoreboard(1)
row = board.row(board.take())
timers.attach(GreenletPool(), row)


class Log(logging.Handler):
    """What was logged."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(logging.Formatter().format(record))


log = Log()
logging.getLogger("gworker").addHandler(log)


def until(condition, seconds=20):
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "not in time"
        time.sleep(0.002)


def without_timers(test):
    """No scenario sees a timer of the one before."""
    log.lines.clear()
    row[Column.EXCEPTIONS] = 0
    try:
        test()
    finally:
        Timer.delete_all()


def test_a_timer_is_never_early_and_hardly_late():
    """On a machine that does other things too, one run out of many says what the clock can do."""
    late = []
    for milliseconds in (1, 3, 10, 20, 50):
        for _ in range(5):
            due = monotonic() + milliseconds / 1000
            Timer.add(
                milliseconds / 1000,
                lambda due=due: late.append(monotonic() - due),
                persistent=False,
            )
    until(lambda: len(late) == 25)
    assert min(late) > -0.002, late
    assert sorted(late)[5] < 0.02, late


def test_a_timer_does_not_drift_however_slow_its_callback_is():
    runs = []

    def callback():
        runs.append(monotonic())
        time.sleep(0.08)

    began = monotonic()
    Timer.add(0.2, callback)
    until(lambda: len(runs) == 10)
    # Every run is due at a multiple of the interval. A slow machine may be late now and then; a
    # timer that counts from the end of its callback would be at 0, 0.08, 0.16, 0.04, 0.12 in turn.
    late = [(at - began + 0.002) % 0.2 for at in runs]
    assert sum(one < 0.07 for one in late) >= 6, late


def test_a_timer_whose_callback_takes_longer_than_its_interval_does_not_overlap_itself():
    running, most = [], []

    def callback():
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()

    began = monotonic()
    Timer.add(0.02, callback)
    until(lambda: len(most) == 6)
    seconds = monotonic() - began
    assert max(most) == 1
    # runs that fell due meanwhile are left out, not made up for
    assert seconds >= 0.02 + 5 * 0.06 - 0.01, seconds


def test_timers_do_not_wait_for_each_other():
    ticks = []
    Timer.add(0.01, lambda: time.sleep(5))
    Timer.add(0.01, lambda: ticks.append(1))
    until(lambda: len(ticks) > 20, 4)


def test_one_shot():
    runs = []

    def callback(*arguments):
        runs.append(arguments)
        runs.append(Timer.delete(timer))

    timer = Timer.add(0.01, callback, (1, "a"), persistent=False)
    until(lambda: runs)
    time.sleep(0.1)
    assert runs == [(1, "a"), False]
    assert not Timer.delete(timer)
    assert not timers.entries


def test_zero_seconds_is_soon():
    runs = []
    Timer.add(0, runs.append, ["now"], persistent=False)
    runs.append("not yet")
    until(lambda: len(runs) == 2)
    assert runs == ["not yet", "now"]


def test_delete():
    runs = []
    timer = Timer.add(0.01, runs.append, ("x",))
    Timer.add(0.01, runs.append, ("o",))
    assert Timer.delete(timer)
    until(lambda: len(runs) > 3)
    assert not Timer.delete(timer)
    assert not Timer.delete(12345)
    assert set(runs) == {"o"}


def test_delete_from_inside_its_own_callback():
    results, other = [], []

    def callback():
        results.append(Timer.delete(timer))
        time.sleep(0.02)

    timer = Timer.add(0.01, callback)
    Timer.add(0.01, other.append, ("x",))
    until(lambda: len(other) > 8)
    assert results == [True]
    assert len(timers.entries) == 1


def test_delete_while_its_callback_runs():
    runs = []

    def callback():
        runs.append("begin")
        time.sleep(0.05)
        runs.append("end")

    timer = Timer.add(0.01, callback)
    until(lambda: runs)
    assert Timer.delete(timer)
    time.sleep(0.2)
    assert runs == ["begin", "end"]


def test_delete_all_also_from_inside():
    runs = []

    def callback():
        runs.append(1)
        Timer.delete_all()

    for _ in range(5):
        Timer.add(0.05, callback)
    until(lambda: runs)
    time.sleep(0.2)
    assert runs == [1]
    assert not timers.entries


def test_in_a_process_that_retires_only_what_repeats_ends():
    runs = []
    Timer.add(0.05, runs.append, ("again",))
    Timer.cron("* * * * * *", runs.append, ("by the clock",))
    Timer.add(0.2, runs.append, ("once",), persistent=False)
    timers.retire()
    until(lambda: runs)
    assert runs == ["once"]
    assert not timers.entries


def test_ids_are_positive_and_unique():
    ids = [Timer.add(10, print) for _ in range(100)]
    Timer.delete_all()
    ids += [Timer.add(10, print) for _ in range(100)]
    assert min(ids) > 0
    assert len(set(ids)) == 200


def test_a_callback_may_add_timers():
    runs = []

    def callback(depth):
        runs.append(depth)
        if depth < 5:
            Timer.add(0.001, callback, (depth + 1,), persistent=False)

    callback(0)
    until(lambda: len(runs) == 6)
    assert runs == list(range(6))


def fails_again_and_again(what):
    """A timer whose callback raises `what` is logged, counted, and goes on."""
    count, others = [], []

    def callback():
        count.append(1)
        raise what

    Timer.add(0.01, callback)
    Timer.add(0.01, others.append, ("x",))
    until(lambda: len(count) >= 3 and others)
    assert row[Column.EXCEPTIONS] == len(count)
    assert row[Column.TIMERS] == 2
    told = [line for line in log.lines if "exception in timer" in line]
    assert len(told) == len(count)
    assert all("Traceback (most recent call last)" in line for line in told)


def test_an_exception_is_logged_and_the_timer_goes_on():
    fails_again_and_again(ZeroDivisionError("ouch"))


def test_an_exit_is_logged_and_the_timer_goes_on():
    fails_again_and_again(SystemExit(3))


def test_an_interrupt_is_logged_and_the_timer_goes_on():
    fails_again_and_again(KeyboardInterrupt)


def test_a_one_shot_that_fails_is_gone():
    count = []

    def callback():
        count.append(1)
        raise ValueError

    Timer.add(0.001, callback, persistent=False)
    until(lambda: count)
    time.sleep(0.05)
    assert not timers.entries
    assert len(count) == 1


def test_an_interval_that_makes_no_sense():
    wrong = (-1, float("nan"), float("inf"), True, False, 10**400, "1", None)
    cases = [(0, True), (0.0001, True), *((each, how) for each in wrong for how in (True, False))]
    for interval, persistent in cases:
        with raises(ValueError, "is not a number of seconds from 0.001"):
            Timer.add(interval, print, persistent=persistent)
        assert not timers.entries


def test_a_negative_delay_and_a_callback_that_is_none():
    with raises(ValueError):
        Timer.add(-1, print, persistent=False)
    with raises(TypeError):
        Timer.add(1, "print", persistent=False)


def test_context_variables_of_one_run_are_not_seen_by_the_next():
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    def callback():
        seen.append(variable.get())
        variable.set("set")

    Timer.add(0.005, callback)
    until(lambda: len(seen) >= 5)
    assert set(seen) == {"unset"}


def test_cron_runs_by_the_clock_on_the_wall():
    seen = []
    Timer.cron("* * * * * *", lambda: seen.append(time.time() % 1))
    until(lambda: len(seen) == 2)
    assert all(each < 0.9 for each in seen), "after the full second, never before it"


@contextmanager
def wall_clock(seconds):
    """The clock on the wall is a list of one number, at which timers look often."""
    clock = [seconds]
    before = timer_module.time, timer_module.LOOK_SECONDS
    timer_module.time, timer_module.LOOK_SECONDS = lambda: clock[0], 0.005
    try:
        yield clock
    finally:
        Timer.delete_all()
        timer_module.time, timer_module.LOOK_SECONDS = before


def test_cron_does_not_overlap_itself_and_leaves_out_what_it_misses():
    running, most, runs = [], [], []

    def job():
        running.append(1)
        most.append(len(running))
        runs.append(clock[0])
        clock[0] += 150  # two more fall due meanwhile
        time.sleep(0.02)
        running.pop()

    with wall_clock(1_000_000_000.0) as clock:
        timer = Timer.cron("* * * * *", job, tz="UTC")
        for _ in range(3):
            count = len(runs)
            clock[0] = (clock[0] // 60 + 1) * 60
            until(lambda: len(runs) > count and not running)
        assert max(most) == 1
        assert [each % 60 for each in runs] == [0, 0, 0]
        assert Timer.delete(timer)
        assert not Timer.delete(timer)


def test_a_clock_that_is_set_while_cron_waits():
    runs = []
    with wall_clock(1_000_000_000.0) as clock:
        Timer.cron("0 * * * *", lambda: runs.append(clock[0]), tz="UTC")
        time.sleep(0.05)
        assert not runs
        clock[0] += 7200  # forward: what was due is run, once
        until(lambda: len(runs) == 1)
        clock[0] -= 1800  # a little back: the same hour does not come again
        time.sleep(0.05)
        clock[0] += 1900
        time.sleep(0.05)
        assert len(runs) == 1
        clock[0] = 500_000_400.0  # far back: it is a new time
        time.sleep(0.05)
        clock[0] = 500_004_000.0
        until(lambda: len(runs) == 2)


def set_back_during_a_run(seconds):
    runs = []

    def job():
        runs.append(clock[0])
        clock[0] -= seconds * (len(runs) == 1)

    with wall_clock(1_000_000_019.0) as clock:
        Timer.cron("* * * * *", job, tz="UTC")
        clock[0] = 1_000_000_020.0
        until(lambda: len(runs) == 1)
        time.sleep(0.05)
        clock[0] += 1.5  # past the same full minute, if it was set back a little
        time.sleep(0.05)
        assert len(runs) == 1
        clock[0] += 60.0
        until(lambda: len(runs) == 2)


def test_a_clock_that_is_set_back_a_little_during_a_run():
    set_back_during_a_run(1.0)


def test_a_clock_that_is_set_back_by_hours_during_a_run():
    set_back_during_a_run(4 * 3600.0)


def test_cron_refuses_what_it_cannot_read():
    with raises(ValueError, "'* * *'"):
        Timer.cron("* * *", print)
    with raises(TypeError, "3 cannot be called"):
        Timer.cron("* * * * *", 3)
    with raises(ValueError, "'Mars/Olympus'"):
        Timer.cron("* * * * *", print, (), "Mars/Olympus")
    with raises(TypeError, "say ('hello',)"):
        Timer.cron("* * * * *", print, "hello")
    assert not timers.entries


run(globals(), without_timers)
