"""What the status command prints."""

from __future__ import annotations

import time
from typing import Any

import pytest
from status_answer import LOG, answer, rendered, worker

from gworker.cli.status_tables import STATUS, status_tables


def test_plain_status_is_aligned_and_complete() -> None:
    lines = rendered(status_tables(answer(), LOG))
    assert lines[0] == "chat:handlers  gworker 0.1.0, compiled core  running  generation 2"
    assert lines[1] == "arbiter pid 70  up 1h01m  rss 15.0M  cpu 0.5%"
    assert lines[2] == "log /var/log/gworker/chat.log (default)"
    headings = lines[3].split()
    assert headings == [column.heading for column in STATUS]
    first, second, totals = (line.split() for line in lines[4:7])
    assert dict(zip(headings, first, strict=True))["UPTIME"] == "1m05s"
    assert dict(zip(headings, first, strict=True))["USS"] == "-"
    assert dict(zip(headings, second, strict=True))["CONNS"] == "1234"
    assert [cell for cell in totals if cell != "-"] == ["total", "40.0M", "1234"]
    assert len(totals) == len(headings)
    assert lines[7:] == [""]
    column = lines[3].index("CONNS") + len("CONNS")
    assert lines[4][column - 1] == "0"
    assert lines[5][column - 4 : column] == lines[6][column - 4 : column] == "1234"


def test_plain_columns_start_where_their_heading_does() -> None:
    lines = rendered(status_tables(answer(), LOG))
    for heading in ("WORKER", "LISTEN", "STATE"):
        start = lines[3].index(heading)
        assert all(line[start] != " " for line in lines[4:6])
        assert start == 0 or all(line[start - 1] == " " for line in lines[3:6])


def test_who_waits_for_the_next_try_is_listed_with_the_reason() -> None:
    waiting = {"pid": None, "state": "backoff", "reason": "exited\n3", "retry_in": 12.8}
    lines = rendered(
        status_tables(answer(workers=[worker(reason=None), worker(id=1, **waiting)]), LOG)
    )
    position = lines.index("failed, and waiting for the next try")
    assert lines[position + 1].split() == ["WORKER", "ID", "NEXT", "TRY", "IN", "REASON"]
    assert lines[position + 2].split() == ["chat", "1", "13s", "exited?3"]
    assert lines[position + 3] == ""


def test_messages_are_shown_where_they_are_used() -> None:
    broker = {"url": "local", "pid": None, "state": "idle"}
    unused = rendered(status_tables(answer(broker=broker), LOG))
    assert not any("broker" in line or "messages" in line for line in unused)
    figures = {"state": "up", "latency_ms": 0.3, "groups": 2, "subscriptions": 5}
    figures |= {"published": 7, "delivered": 30, "dropped": 1, "gaps": 0}
    rows = [worker(messages=figures), worker(id=1, messages=None)]
    broker = {"url": "redis://***@h/0", "pid": None, "state": None}
    lines = rendered(
        status_tables(answer(workers=rows, broker=broker, totals={"messages": figures}), LOG)
    )
    assert "broker redis://***@h/0" in lines
    start = lines.index("messages between processes")
    heading, row, total = (line.split() for line in lines[start + 1 : start + 4])
    assert heading[3:] == [
        "BROKER", "LATENCY/MS", "GROUPS", "SUBS", "PUBLISHED", "DELIVERED", "DROPPED", "GAPS",
    ]  # fmt: skip
    assert row[3:] == total[3:] == ["up", "0.3", "2", "5", "7", "30", "1", "0"]
    assert lines[start + 4 : start + 5] in ([], [""])


def test_exits_and_the_last_reload_follow() -> None:
    exits = [
        {
            "worker": "chat",
            "id": 0,
            "pid": 9,
            "reason": "killed by SIGKILL",
            "time": 1_700_000_000.0,
        }
    ]
    last = {"ok": True, "error": None, "seconds": 1.25, "handed_over": 3, "closed": 1}
    lines = rendered(status_tables(answer(exits=exits, last_reload=last), LOG))
    position = lines.index("last exits")
    assert lines[position + 1].split() == ["WORKER", "ID", "PID", "TIMES", "LAST", "AGO", "REASON"]
    assert lines[position + 2].endswith("killed by SIGKILL")
    assert lines[-2] == "last reload: ok in 1.2s, connections: 3 handed over, 1 closed"
    last = {
        "ok": False,
        "error": "SyntaxError:\nbad",
        "seconds": 0.4,
        "handed_over": 0,
        "closed": 0,
    }
    lines = rendered(status_tables(answer(last_reload=last), LOG))
    assert lines[-2].endswith("failed after 0.4s: SyntaxError:?bad")


def test_equal_exits_are_one_row() -> None:
    """A crash loop of all processes is one line, and what else has ended is seen beside it."""
    now = time.time()

    def ended(
        number: int, pid: int, ago: float, reason: str = "exited 3", worker: str = "chat"
    ) -> dict[str, Any]:
        return {"worker": worker, "id": number, "pid": pid, "reason": reason, "time": now - ago}

    exits = [
        *(ended(number % 4, 100 + number, 120 - number) for number in range(11)),
        ended(5, 300, 60, "killed by signal 11 (SIGSEGV)"),
        ended(2, 400, 50, worker="web"),
        ended(7, 500, 42.2),
    ]
    lines = rendered(status_tables(answer(exits=exits), LOG))
    position = lines.index("last exits")
    assert lines[position + 2].split()[:4] == ["chat", "5", "300", "×1"]
    assert lines[position + 3].split()[:4] == ["web", "2", "400", "×1"]
    assert lines[position + 4].split()[:5] == ["chat", "0-3,", "7", "500", "×12"]
    assert lines[position + 4].endswith("42s  exited 3")
    assert lines[position + 5] == ""


@pytest.mark.parametrize("last", [None, {}, {"ok": None, "error": None, "seconds": None}])
def test_without_a_reload_there_is_no_line_of_it(last: dict[str, None] | None) -> None:
    assert "last reload" not in "".join(rendered(status_tables(answer(last_reload=last), LOG)))
