"""What `status --json` contains: exactly the documented fields, and totals that never go back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import World, declaration

from gworker.ipc.scoreboard import COUNTERS, Column
from gworker.master.watchdog import BUSY_SECONDS

FIELDS: dict[str, tuple[type, ...]] = {
    "worker": (str,),
    "id": (int,),
    "pid": (int, type(None)),
    "listen": (str, type(None)),
    "state": (str,),
    "generation": (int,),
    "uptime": (int, float),
    "rss": (int,),
    "uss": (int,),
    "cpu_percent": (int, float),
    "connections": (int,),
    "requests": (int,),
    "requests_per_second": (int, float),
    "bytes_read": (int,),
    "bytes_written": (int,),
    "send_queue": (int,),
    "send_failures": (int,),
    "exceptions": (int,),
    "timers": (int,),
    "loop_lag_ms": (int, float),
    "messages": (dict, type(None)),
}

WAITING = {"reason": (str,), "retry_in": (int, float)}
"""What a row has besides if its slot waits for the next try."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def status(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(world.instance.status()))
    return found


def rows(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = status(world)["workers"]
    return found


def check(row: dict[str, Any], waits: bool = False) -> None:
    fields = {**FIELDS, **WAITING} if waits else FIELDS
    assert set(row) == set(fields)
    for name, kinds in fields.items():
        assert isinstance(row[name], kinds), name


def test_exactly_the_fields_of_the_contract(world: World) -> None:
    world.start(declaration("a", listen="tcp://127.0.0.1:0"), declaration("b"))
    found = status(world)
    assert set(found) == {
        "name", "version", "core", "state", "generation", "arbiter", "workers", "totals", "exits",
        "last_reload", "broker",
    }  # fmt: skip
    assert set(found["arbiter"]) == {"pid", "uptime", "rss", "cpu_percent"}
    assert set(found["last_reload"]) == {"ok", "error", "seconds", "handed_over", "closed"}
    assert found["last_reload"]["ok"] is None
    assert found["state"] == "running"
    for row in found["workers"]:
        check(row)
    assert found["workers"][0]["listen"].startswith("tcp://127.0.0.1:")
    assert not found["workers"][0]["listen"].endswith(":0")
    assert found["workers"][1]["listen"] is None
    assert set(FIELDS) - set(found["totals"]) == {
        "worker", "id", "pid", "listen", "state", "generation", "uptime", "loop_lag_ms"
    }  # fmt: skip


def test_a_slot_that_waits_for_its_next_try_is_listed(world: World) -> None:
    world.start(declaration("a"))
    world.die(*world.living(), 9)
    (row,) = rows(world)
    check(row, waits=True)
    assert (row["state"], row["pid"]) == ("backoff", None)
    assert (row["reason"], row["retry_in"]) == ("killed by signal 9 (SIGKILL)", 0.1)
    assert status(world)["totals"]["processes"] == 0


def test_every_state_has_its_word(world: World) -> None:
    world.begin()
    assert rows(world) == []
    world.declare(declaration("a"))
    assert [row["state"] for row in rows(world)] == ["booting"]
    world.ready(*world.booting())
    assert [row["state"] for row in rows(world)] == ["ready"]
    world.reload()
    assert [row["state"] for row in rows(world)] == ["ready"], "a probe is no worker process"
    world.declare(declaration("a"))
    world.ready(*world.booting())
    assert [(row["state"], row["generation"]) for row in rows(world)] == [
        ("ready", 2),
        ("retiring", 1),
    ]


def test_a_loop_that_does_not_turn_is_busy(world: World) -> None:
    world.start(declaration("a"))
    (process,) = world.living()
    process.row[Column.LAG_US] = 1500
    assert (rows(world)[0]["state"], rows(world)[0]["loop_lag_ms"]) == ("ready", 1.5)
    world.now += BUSY_SECONDS + 1
    assert rows(world)[0]["state"] == "busy"
    assert rows(world)[0]["loop_lag_ms"] == pytest.approx((BUSY_SECONDS + 1) * 1000)


def test_rows_are_in_the_order_of_the_declarations(world: World) -> None:
    world.start(declaration("z", count=2), declaration("a"))
    assert [(row["worker"], row["id"]) for row in rows(world)] == [("z", 0), ("z", 1), ("a", 0)]


def test_the_scheme_is_the_workers_own(world: World) -> None:
    world.start(declaration("a", listen="tcp://127.0.0.1:0"))
    port = rows(world)[0]["listen"].rpartition(":")[2]
    world.reload()
    world.declare(declaration("a", listen="websocket://127.0.0.1:0"))
    world.finish_reload()
    assert rows(world)[0]["listen"] == f"websocket://127.0.0.1:{port}"


def totals(world: World) -> dict[str, int]:
    found = status(world)["totals"]
    return {
        column.name.lower(): found[column.name.lower()]
        for column in COUNTERS
        if column.name.lower() in found
    }


def test_what_processes_have_to_do_with_messages(world: World) -> None:
    world.start(declaration("a", count=2), declaration("b"))
    assert [row["messages"] for row in rows(world)] == [None] * 3
    assert status(world)["totals"]["messages"] is None
    first, second, _ = world.living()
    for process, state, latency in ((first, 3, 1500), (second, 2, 200)):
        process.row[Column.BROKER] = state
        process.row[Column.BROKER_LATENCY_US] = latency
        for number, column in enumerate(
            (Column.GROUPS, Column.SUBSCRIPTIONS, Column.PUBLISHED, Column.DELIVERED)
        ):
            process.row[column] = 10 + number
    figures = {"groups": 10, "subscriptions": 11, "published": 12, "delivered": 13}
    none = {"dropped": 0, "gaps": 0}
    assert [row["messages"] for row in rows(world)] == [
        {"state": "up", "latency_ms": 1.5, **figures, **none},
        {"state": "degraded", "latency_ms": 0.2, **figures, **none},
        None,
    ]
    doubled = {name: 2 * value for name, value in figures.items()}
    all_of_them = {"state": "degraded", "latency_ms": 1.5, **doubled, **none}
    assert status(world)["totals"]["messages"] == all_of_them
    world.die(first, 9)
    left = {**figures, "published": 24, "delivered": 26}
    found = status(world)["totals"]["messages"]
    assert found == {"state": "degraded", "latency_ms": 0.2, **left, **none}


def test_totals_never_go_back(world: World) -> None:
    names = {"requests", "bytes_read", "bytes_written", "send_failures", "exceptions"}
    world.start(declaration("a", count=2), declaration("b"))
    for process in world.living():
        for column in COUNTERS:
            process.row[column] = 100
    assert totals(world) == dict.fromkeys(names, 300)

    world.die(world.living()[0], 9)
    assert totals(world) == dict.fromkeys(names, 300)
    world.sleep(1)
    world.ready(*world.booting())
    assert totals(world) == dict.fromkeys(names, 300)

    world.reload()
    world.declare(declaration("a", count=1))
    world.finish_reload()
    assert totals(world) == dict.fromkeys(names, 300)
    assert [(row["worker"], row["id"]) for row in rows(world)] == [("a", 0)]


def test_a_refused_reload_is_told(world: World) -> None:
    world.start(declaration("a"))
    world.reload()
    world.sleep(0.5)
    world.fail(world.probe, "it failed")
    last = status(world)["last_reload"]
    assert (last["ok"], last["error"], last["seconds"]) == (False, "it failed", 0.5)


def test_a_process_that_serves_on_because_its_successor_failed_says_why(world: World) -> None:
    world.start(declaration("a", count=2))
    old = world.living()[0]
    world.say(old, event="replace", reason="")
    world.fail(*world.booting(), reason="SyntaxError: no")
    first, second = rows(world)
    check(first, waits=True)
    assert (first["pid"], first["state"], first["reason"], first["retry_in"]) == (
        old.pid,
        "ready",
        "SyntaxError: no",
        0.1,
    )
    assert not WAITING.keys() & second.keys()
    world.sleep(1)
    assert not any(WAITING.keys() & row.keys() for row in rows(world)), "the next try goes on"
