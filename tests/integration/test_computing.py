"""`gworker.computing`: a pool of processes that is safe in worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import places
import psutil
import pytest
from instance import DEADLINE, Instance, is_alive, wait_for
from serving import Served, Ticker, ask

pytestmark = pytest.mark.timeout(120)

APP = places.app("computing")


def made(directory: Path, *options: str) -> Served:
    one = Served(directory / "app", "")
    (one.directory / "app.py").write_text(APP)
    one.start(*options)
    return one


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = made(tmp_path_factory.mktemp("computing"), "--computing-processes", "2")
    try:
        yield one
    finally:
        one.kill()


def pool(app: Served) -> list[psutil.Process]:
    """The processes of the pool that live: a dead one has no command line, or is gone meanwhile."""
    found = []
    for each in app.server("text").children():
        with suppress(psutil.NoSuchProcess):
            if each.cmdline()[:1] == ["gworker: computing [app] text#0"]:
                found.append(each)
    return found


def test_results_and_exceptions_travel(app: Served) -> None:
    assert ask(app, "square 12") == "144"
    assert ask(app, "keyword 12") == "144"
    assert ask(app, "big") == "5000000"
    wait_for(lambda: ask(app, "begun") == "[49, 64]", "on_worker_start and a timer have computed")
    refused = ask(app, "fail way")
    assert refused.startswith("ValueError: no way In the process that computed: Traceback")
    assert 'in fail     raise ValueError(f"no {how}")' in refused
    assert ask(app, "fail odd").startswith("RuntimeError: Odd: an odd one")
    assert ask(app, "square 12") == "144", "and the pool goes on"


def test_it_runs_in_spawned_processes_that_are_not_patched(app: Served) -> None:
    answer = ask(app, "where")
    assert int(answer.strip("(").split(",")[0]) in [each.pid for each in pool(app)]
    assert answer.endswith("'MainThread', '_thread')")
    started = pool(app)
    assert 1 <= len(started) <= 2
    for each in started:
        assert not [one for one in each.net_connections("all") if one.laddr]


def test_the_loop_goes_on_and_no_more_run_than_may(app: Served) -> None:
    ask(app, "square 1")
    with Ticker(app) as ticker:
        seconds = float(ask(app, "many 4 0.6"))
    assert seconds > 1.2, "two at once"
    assert ticker.longest < 0.6
    assert len(pool(app)) == 2


def test_what_cannot_be_sent_is_told(app: Served) -> None:
    assert ask(app, "lambda").startswith("TypeError: computing() cannot send <function <lambda>")
    assert (
        ask(app, "nothing")
        == "TypeError: computing() calls a function elsewhere: computing(f, x), not "
        "computing(f(x)); got 4 "
    )
    assert "in the thread of the event loop" in ask(app, "thread")
    assert "not in one that was forked there" in ask(app, "copy")
    assert ask(app, "process") == "0"
    assert ask(app, "square 12") == "144"


def test_a_broken_pool_is_renewed(app: Served) -> None:
    ask(app, "square 1")
    before = pool(app)
    assert ask(app, "fail die").startswith("BrokenProcessPool: ")
    assert ask(app, "square 12") == "144"
    wait_for(lambda: not any(map(is_alive, before)), "the end of the broken pool")
    for each in pool(app):
        each.kill()
    wait_for(lambda: not pool(app), "the end of a pool that does nothing")
    assert ask(app, "square 12") == "144"


def test_who_gives_up_waiting_gets_no_result(app: Served) -> None:
    assert ask(app, "hurry 0.1") == "too late"
    assert ask(app, "square 3") == "9", "on the other processor"
    for each in pool(app):
        each.kill()


def test_a_reload_and_a_kill_leave_nothing_behind(app: Served) -> None:
    ask(app, "square 1")
    before = app.server("text")
    started = before.children(recursive=True)
    assert app.reload() == {"exit": 0}
    wait_for(lambda: not any(map(is_alive, [before, *started])), "the end of the old generation")
    assert ask(app, "square 12") == "144"
    before = app.server("text")
    started = before.children(recursive=True)
    before.kill()
    wait_for(lambda: not any(map(is_alive, started)), "the end of the pool of a killed process", 5)
    wait_for(
        lambda: app.row("text")["state"] == "ready" and app.server("text").pid != before.pid,
        "a successor",
    )
    assert ask(app, "square 12") == "144"


@pytest.mark.parametrize(
    ("seconds", "least", "most"), [(0.0, 0.0, 2.0), (100.0, 0.8, 4.0)], ids=["idle", "busy"]
)
def test_a_stop_ends_the_pool(tmp_path: Path, seconds: float, least: float, most: float) -> None:
    app = made(tmp_path, "--graceful-timeout", "1")
    try:
        ask(app, "square 1")
        if seconds:
            ask(app, f"begin {seconds}")
        started = app.server("text").children(recursive=True)
        assert started
        began = time.monotonic()
        assert app.run("stop").returncode == 0
        assert least < time.monotonic() - began < most
        wait_for(lambda: not any(map(is_alive, started)), "the end of the pool", 2)
        assert seconds or "Traceback" not in app.read_log()
    finally:
        app.kill()


def test_functions_of_a_script_and_its_guard(tmp_path: Path) -> None:
    """`python app.py start`: the pool knows what is in `__main__`, and starts no second
    instance."""
    one = Instance(tmp_path / "app", APP)
    one.runtime.mkdir(mode=0o700)
    one.write(APP)
    command = [sys.executable, "app.py", "start", *one.arguments("--log-file", str(one.log))]
    running = subprocess.Popen(command, cwd=one.directory, env={**os.environ, "PYTHONSAFEPATH": ""})
    try:
        one.wait_log(" is ready: ")
        assert one.ask("text", b"square 12\n") == b"144\n"
        assert one.run("stop").returncode == 0
        assert running.wait(DEADLINE) == 0
    finally:
        running.kill()
        running.wait()
        one.kill()
