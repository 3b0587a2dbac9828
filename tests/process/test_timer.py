"""Timers, in a process of their own: this one has no event loop and shall have none."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

PRELUDE = """
import json
import logging
import sys
from time import monotonic

from gevent import monkey
monkey.patch_all()

import time

from gworker.process.timer import Timer, timers

logging.basicConfig(stream=sys.stderr)


def until(condition, seconds=20):
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "not in time"
        time.sleep(0.002)


def tell(value):
    print(json.dumps(value))
"""


def run(source: str) -> tuple[Any, str]:
    """Run `source`; return what it told and what was logged."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(source)],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_a_timer_is_never_early_and_hardly_late() -> None:
    """On a machine that does other things too, one run out of many says what the clock can do."""
    late, _ = run("""
        late = []
        for milliseconds in (1, 3, 10, 20, 50):
            for _ in range(5):
                began = monotonic()
                Timer.add(milliseconds / 1000, lambda b=began, m=milliseconds: late.append(monotonic() - b - m / 1000),
                          persistent=False)
        until(lambda: len(late) == 25)
        tell(late)
    """)
    assert min(late) > -0.002
    assert sorted(late)[5] < 0.02


def test_a_timer_does_not_drift_however_slow_its_callback_is() -> None:
    (began, runs), _ = run("""
        runs = []
        def callback():
            runs.append(monotonic())
            time.sleep(0.08)
        began = monotonic()
        Timer.add(0.2, callback)
        until(lambda: len(runs) == 10)
        tell([began, runs])
    """)
    # Every run is due at a multiple of the interval. A slow machine may be late now and then; a
    # timer that counts from the end of its callback would be at 0, 0.08, 0.16, 0.04, 0.12 in turn.
    late = [(at - began + 0.002) % 0.2 for at in runs]
    assert sum(one < 0.07 for one in late) >= 6


def test_a_timer_whose_callback_takes_longer_than_its_interval_does_not_overlap_itself() -> None:
    (most, seconds), _ = run("""
        running, most, count = 0, 0, 0
        def callback():
            global running, most, count
            running += 1
            count += 1
            most = max(most, running)
            time.sleep(0.05)
            running -= 1
        began = monotonic()
        Timer.add(0.02, callback)
        until(lambda: count == 6)
        tell([most, monotonic() - began])
    """)
    assert most == 1
    assert (
        seconds >= 0.02 + 5 * 0.06 - 0.01
    )  # runs that fell due meanwhile are left out, not made up for


def test_timers_do_not_wait_for_each_other() -> None:
    ticks, _ = run("""
        ticks = 0
        def tick():
            global ticks
            ticks += 1
        Timer.add(0.01, lambda: time.sleep(5))
        Timer.add(0.01, tick)
        until(lambda: ticks > 20, 4)
        tell(ticks)
    """)
    assert ticks > 20


def test_one_shot() -> None:
    (runs, found, left), _ = run("""
        runs = []
        def callback(*arguments):
            runs.append(arguments)
            runs.append(Timer.delete(timer))
        timer = Timer.add(0.01, callback, (1, "a"), persistent=False)
        until(lambda: runs)
        time.sleep(0.1)
        tell([runs, Timer.delete(timer), len(timers.entries)])
    """)
    assert runs == [[1, "a"], False]
    assert (found, left) == (False, 0)


def test_zero_seconds_is_soon() -> None:
    runs, _ = run("""
        runs = []
        Timer.add(0, runs.append, ["now"], persistent=False)
        runs.append("not yet")
        until(lambda: len(runs) == 2)
        tell(runs)
    """)
    assert runs == ["not yet", "now"]


def test_delete() -> None:
    (deleted, again, unknown, runs), _ = run("""
        runs = []
        timer = Timer.add(0.01, runs.append, ("x",))
        other = Timer.add(0.01, runs.append, ("o",))
        deleted = Timer.delete(timer)
        until(lambda: len(runs) > 3)
        tell([deleted, Timer.delete(timer), Timer.delete(12345), runs])
    """)
    assert (deleted, again, unknown) == (True, False, False)
    assert set(runs) == {"o"}


def test_delete_from_inside_its_own_callback() -> None:
    (results, left), _ = run("""
        results = []
        def callback():
            results.append(Timer.delete(timer))
            time.sleep(0.02)
        timer = Timer.add(0.01, callback)
        other = []
        Timer.add(0.01, other.append, ("x",))
        until(lambda: len(other) > 8)
        tell([results, len(timers.entries)])
    """)
    assert (results, left) == ([True], 1)


def test_delete_while_its_callback_runs() -> None:
    (runs, deleted), _ = run("""
        runs = []
        def callback():
            runs.append("begin")
            time.sleep(0.05)
            runs.append("end")
        timer = Timer.add(0.01, callback)
        until(lambda: runs)
        deleted = Timer.delete(timer)
        time.sleep(0.2)
        tell([runs, deleted])
    """)
    assert (runs, deleted) == (["begin", "end"], True)


def test_delete_all_also_from_inside() -> None:
    (runs, left), _ = run("""
        runs = []
        def callback():
            runs.append(1)
            Timer.delete_all()
        for _ in range(5):
            Timer.add(0.05, callback)
        until(lambda: runs)
        time.sleep(0.2)
        tell([runs, len(timers.entries)])
    """)
    assert (runs, left) == ([1], 0)


def test_in_a_process_that_retires_only_what_repeats_ends() -> None:
    runs, _ = run("""
        runs = []
        Timer.add(0.05, runs.append, ("again",))
        Timer.cron("* * * * * *", runs.append, ("by the clock",))
        Timer.add(0.2, runs.append, ("once",), persistent=False)
        timers.retire()
        until(lambda: runs)
        tell([runs, len(timers.entries)])
    """)
    assert runs == [["once"], 0]


def test_ids_are_positive_and_unique() -> None:
    ids, _ = run("""
        ids = [Timer.add(10, print) for _ in range(100)]
        Timer.delete_all()
        ids += [Timer.add(10, print) for _ in range(100)]
        tell(ids)
    """)
    assert min(ids) > 0
    assert len(set(ids)) == 200


def test_a_callback_may_add_timers() -> None:
    runs, _ = run("""
        runs = []
        def callback(depth):
            runs.append(depth)
            if depth < 5:
                Timer.add(0.001, callback, (depth + 1,), persistent=False)
        callback(0)
        until(lambda: len(runs) == 6)
        tell(runs)
    """)
    assert runs == list(range(6))


@pytest.mark.parametrize(
    "what", ["ZeroDivisionError('ouch')", "SystemExit(3)", "KeyboardInterrupt"]
)
def test_an_exception_is_logged_and_the_timer_goes_on(what: str) -> None:
    (count, exceptions, others), log = run(f"""
        from gworker.connection.greenlet_pool import GreenletPool
        from gworker.ipc.scoreboard import Column, Scoreboard

        row = Scoreboard(1).row(0)
        timers.attach(GreenletPool(), row)
        count, others = 0, []
        def callback():
            global count
            count += 1
            raise {what}
        Timer.add(0.01, callback)
        Timer.add(0.01, others.append, ("x",))
        until(lambda: count >= 3 and others)
        told = [count, row[Column.EXCEPTIONS], row[Column.TIMERS]]
        Timer.delete_all()
        tell(told)
    """)
    assert count >= 3
    assert (exceptions, others) == (count, 2)
    assert log.count("exception in timer") == count
    assert "Traceback (most recent call last)" in log


def test_a_one_shot_that_fails_is_gone() -> None:
    (left, count), _ = run("""
        count = 0
        def callback():
            global count
            count += 1
            raise ValueError
        Timer.add(0.001, callback, persistent=False)
        until(lambda: count)
        time.sleep(0.05)
        tell([len(timers.entries), count])
    """)
    assert (left, count) == (0, 1)


NO_INTERVALS = ["-1", "float('nan')", "float('inf')", "True", "False", "10**400", "'1'", "None"]


@pytest.mark.parametrize(
    ("interval", "persistent"),
    [
        ("0", True),
        ("0.0001", True),
        *((each, how) for each in NO_INTERVALS for how in (True, False)),
    ],
)
def test_an_interval_that_makes_no_sense(interval: str, persistent: bool) -> None:
    words, _ = run(f"""
        try:
            Timer.add({interval}, print, persistent={persistent})
        except ValueError as error:
            tell([str(error), len(timers.entries)])
    """)
    assert "is not a number of seconds from 0.001" in words[0]
    assert words[1] == 0


def test_a_negative_delay_and_a_callback_that_is_none() -> None:
    words, _ = run("""
        words = []
        for arguments in ((-1, print), (1, "print")):
            try:
                Timer.add(*arguments, persistent=False)
            except (ValueError, TypeError) as error:
                words.append(type(error).__name__)
        tell(words)
    """)
    assert words == ["ValueError", "TypeError"]


def test_context_variables_of_one_run_are_not_seen_by_the_next() -> None:
    seen, _ = run("""
        import contextvars
        variable = contextvars.ContextVar("variable", default="unset")
        seen = []
        def callback():
            seen.append(variable.get())
            variable.set("set")
        Timer.add(0.005, callback)
        until(lambda: len(seen) == 5)
        tell(seen)
    """)
    assert seen == ["unset"] * 5


def test_cron_runs_by_the_clock_on_the_wall() -> None:
    seconds, _ = run("""
        seen = []
        Timer.cron("* * * * * *", lambda: seen.append(time.time() % 1))
        until(lambda: len(seen) == 2)
        tell(seen)
    """)
    assert all(each < 0.9 for each in seconds), "after the full second, never before it"


def test_cron_does_not_overlap_itself_and_leaves_out_what_it_misses() -> None:
    told, _ = run("""
        import gworker.process.timer
        clock = [1_000_000_000.0]
        gworker.process.timer.time = lambda: clock[0]
        gworker.process.timer.LOOK_SECONDS = 0.005
        running, most, runs = [0], [0], []

        def job():
            running[0] += 1
            most[0] = max(most[0], running[0])
            runs.append(clock[0])
            clock[0] += 150  # two more fall due meanwhile
            time.sleep(0.02)
            running[0] -= 1

        timer = Timer.cron("* * * * *", job, tz="UTC")
        for _ in range(3):
            count = len(runs)
            clock[0] = (clock[0] // 60 + 1) * 60
            until(lambda: len(runs) > count and not running[0])
        tell([most[0], [each % 60 for each in runs], Timer.delete(timer), Timer.delete(timer)])
    """)
    assert told == [1, [0, 0, 0], True, False]


def test_a_clock_that_is_set_while_cron_waits() -> None:
    told, _ = run("""
        import gworker.process.timer
        clock = [1_000_000_000.0]
        gworker.process.timer.time = lambda: clock[0]
        gworker.process.timer.LOOK_SECONDS = 0.005
        runs = []
        Timer.cron("0 * * * *", lambda: runs.append(clock[0]), tz="UTC")
        time.sleep(0.05)
        early = len(runs)
        clock[0] += 7200                       # forward: what was due is run, once
        until(lambda: len(runs) == 1)
        clock[0] -= 1800                       # a little back: the same hour does not come again
        time.sleep(0.05)
        clock[0] += 1900
        time.sleep(0.05)
        twice = len(runs)
        clock[0] = 500_000_400.0               # far back: it is a new time
        time.sleep(0.05)
        clock[0] = 500_004_000.0
        until(lambda: len(runs) == twice + 1)
        tell([early, twice])
    """)
    assert told == [0, 1]


@pytest.mark.parametrize("back", [1.0, 4 * 3600.0])
def test_a_clock_that_is_set_back_during_a_run(back: float) -> None:
    told, _ = run(f"""
        import gworker.process.timer
        clock = [1_000_000_019.0]
        gworker.process.timer.time = lambda: clock[0]
        gworker.process.timer.LOOK_SECONDS = 0.005
        runs = []

        def job():
            runs.append(clock[0])
            clock[0] -= {back} * (len(runs) == 1)

        Timer.cron("* * * * *", job, tz="UTC")
        clock[0] = 1_000_000_020.0
        until(lambda: len(runs) == 1)
        time.sleep(0.05)
        clock[0] += 1.5  # past the same full minute, if it was set back a little
        time.sleep(0.05)
        twice = len(runs)
        clock[0] += 60.0
        until(lambda: len(runs) == twice + 1)
        tell([twice])
    """)
    assert told == [1]


def test_cron_refuses_what_it_cannot_read() -> None:
    told, _ = run("""
        said = []
        for arguments in (
            ("* * *", print),
            ("* * * * *", 3),
            ("* * * * *", print, (), "Mars/Olympus"),
            ("* * * * *", print, "hello"),
        ):
            try:
                Timer.cron(*arguments)
            except (ValueError, TypeError) as error:
                said.append(str(error))
        tell([said, len(timers.entries)])
    """)
    assert told[1] == 0
    for text, error in zip(
        ("'* * *'", "3 cannot be called", "'Mars/Olympus'", "say ('hello',)"), told[0], strict=True
    ):
        assert text in error
