"""SystemExit and KeyboardInterrupt, raised in a worker process where no connection's callback
contains them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import places
import pytest
from instance import wait_for
from serving import Client, Served, clients, serve

pytestmark = pytest.mark.timeout(120)

APP = places.app("system_exits")

INNOCENT = 40


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP, "--access-log", "access") as one:
        yield one


def notes(app: Served, pid: int) -> list[str]:
    lines = (app.directory / "notes").read_text().splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{pid} ")]


def ask(app: Served, line: str) -> int:
    return int(app.ask("text", f"{line}\n".encode()))


@pytest.mark.parametrize("way", ["greenlet", "interrupt", "callback", "main"])
def test_it_becomes_a_graceful_retirement(app: Served, way: str) -> None:
    before = ask(app, "pid")
    lines = (app.directory / "access").read_text().count("\n")
    told = len(app.read_log())
    with clients(app, "text", INNOCENT) as innocent:
        for each in innocent:
            each.send("pid\n")
            assert each.line() == str(before)
        ask(app, way)
        for each in innocent:
            assert each.rest() == b"", "the end, and no reset"
    app.wait_log(f"text#0 (pid {before}) has left")
    assert ask(app, "pid") != before, "there is a successor"
    assert notes(app, before).count("on_close") >= INNOCENT + 1
    assert notes(app, before)[-1] == "on_worker_stop"
    wait_for(
        lambda: (app.directory / "access").read_text().count("\n") >= lines + INNOCENT + 1,
        "the access log",
    )
    log = app.read_log()[told:]
    kind = "KeyboardInterrupt" if way == "interrupt" else "SystemExit"
    assert re.search(rf"{kind} in .* ends this process\n +Traceback", log)
    assert app.status()["exits"] == []


@pytest.mark.parametrize("way", ["handler", "timer"])
def test_in_a_callback_it_costs_no_more_than_another_exception(app: Served, way: str) -> None:
    before = ask(app, "pid")
    with Client(app, "text") as innocent, Client(app, "text") as guilty:
        innocent.send("pid\n")
        innocent.line()
        guilty.send(f"{way}\n")
        if way == "handler":
            assert guilty.rest() == b""
        else:
            guilty.line()
        app.wait_log("exception in on_message" if way == "handler" else "exception in timer")
        innocent.send("pid\n")
        assert innocent.line() == str(before)


def test_before_it_serves_it_is_the_reason_why_it_does_not(app: Served) -> None:
    (app.directory / "fail").touch()
    try:
        answer = app.reload()
    finally:
        (app.directory / "fail").unlink()
    assert answer["exit"] == 1
    assert "SystemExit: no way" in answer["error"]
    assert ask(app, "pid")
