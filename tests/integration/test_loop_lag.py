"""`loop_lag_ms` of real processes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import places
import pytest
from instance import wait_for
from serving import Client, Served, serve

APP = places.app("held")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP) as one:
        yield one


def lag(app: Served, name: str) -> float:
    return float(app.row(name)["loop_lag_ms"])


def test_a_loop_that_is_always_held_is_late_whenever_one_looks(app: Served) -> None:
    wait_for(lambda: app.row("always")["uptime"] > 4, "beats")
    samples = []
    for _ in range(15):
        samples.append(lag(app, "always"))
        time.sleep(0.1)
    assert min(samples) > 100


def test_a_loop_that_is_held_now_says_so_and_remembers_it(app: Served) -> None:
    with Client(app, "asked") as client:
        client.send("2.2\n")
        wait_for(lambda: lag(app, "asked") > 1500, "the loop to be found held", 10)
        wait_for(lambda: app.row("asked")["requests"] == 1, "the end of it")
        assert 1500 < lag(app, "asked") < 10_000
        wait_for(lambda: lag(app, "asked") < 1000, "it to be forgotten", 20)
