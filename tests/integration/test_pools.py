"""multiprocessing.Pool and ProcessPoolExecutor of the user's own: they work, stop no event loop,
and end in time."""

from __future__ import annotations

import time
from collections.abc import Callable

import places
import psutil
import pytest
from instance import is_alive, wait_for
from serving import Served, Ticker, ask

pytestmark = pytest.mark.timeout(120)

APP = places.app("pools")

KINDS = [
    f"{kind}-{method}"
    for kind in ("pool", "executor")
    for method in ("fork", "spawn", "forkserver")
]


@pytest.mark.parametrize("kind", KINDS)
def test_it_works_stops_no_handler_and_ends_with_the_instance(
    serving: Callable[..., Served], kind: str
) -> None:
    app = serving(APP)
    with Ticker(app) as ticker:
        assert ask(app, f"sizes {kind}") == "[2000000, 2000000, 2000000, 2000000]"
        assert ask(app, f"squares {kind}") == "[0, 1, 4, 9]"
    assert ticker.longest < 0.5, "less than one of the computations takes"
    started = psutil.Process(app.server("text").pid).children(recursive=True)
    assert len(started) >= 2
    began = time.monotonic()
    assert app.run("stop").returncode == 0
    assert time.monotonic() - began < 2
    wait_for(lambda: not any(map(is_alive, started)), "the end of the pool", 2)
    assert "Traceback" not in app.read_log()
    assert "the time is up" not in app.read_log()


def test_what_a_pool_computes_may_be_finished(serving: Callable[..., Served]) -> None:
    app = serving(APP, "--graceful-timeout", "10")
    assert ask(app, "begin fork 1.5") == "begun"
    began = time.monotonic()
    assert app.run("stop").returncode == 0
    assert 1 < time.monotonic() - began < 5
    assert (app.directory / "done").exists()


def test_what_a_pool_computes_ends_at_the_deadline(serving: Callable[..., Served]) -> None:
    app = serving(APP, "--graceful-timeout", "1")
    assert ask(app, "begin spawn 100") == "begun"
    started = psutil.Process(app.server("text").pid).children(recursive=True)
    began = time.monotonic()
    assert app.run("stop").returncode == 0
    assert time.monotonic() - began < 4
    wait_for(lambda: not any(map(is_alive, started)), "the end of the pool", 2)


@pytest.mark.parametrize("kind", ["pool-fork", "executor-fork"])
def test_a_copy_takes_no_results_of_its_parents_pool(
    serving: Callable[..., Served], kind: str
) -> None:
    app = serving(APP, "--graceful-timeout", "1")
    assert ask(app, f"sizes {kind}") == "[2000000, 2000000, 2000000, 2000000]"
    copies = [int(ask(app, "copy 20")) for _ in range(4)]
    for _ in range(5):
        assert ask(app, f"sizes {kind}") == "[2000000, 2000000, 2000000, 2000000]"
    assert all(map(psutil.pid_exists, copies))


def test_a_killed_worker_leaves_no_pool(serving: Callable[..., Served]) -> None:
    app = serving(APP)
    for kind in KINDS:
        assert ask(app, f"sizes {kind}") == "[2000000, 2000000, 2000000, 2000000]"
    server = app.server("text")
    started = server.children(recursive=True)
    assert len(started) >= 12
    server.kill()
    wait_for(lambda: not any(map(is_alive, started)), "the end of all pools", 10)
