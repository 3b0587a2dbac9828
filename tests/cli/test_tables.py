"""Figures as people read them, and tables in both renderings."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from gworker.cli import tables
from gworker.cli.tables import duration, number, size, text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0B"),
        (1, "1B"),
        (1023, "1023B"),
        (1024, "1.0K"),
        (1536, "1.5K"),
        (102400, "100K"),
        (1 << 20, "1.0M"),
        (20 << 20, "20.0M"),
        (3 << 30, "3.0G"),
        (1 << 40, "1.0T"),
        (5 << 60, "5120P"),
    ],
)
def test_size(value: float | None, shown: str) -> None:
    assert size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0.0s"),
        (0.26, "0.3s"),
        (9.94, "9.9s"),
        (10, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (3599.7, "1h00m"),
        (2 * 3600 + 7 * 60 + 9, "2h07m"),
        (86400 * 5 + 3600 * 3, "5d03h"),
    ],
)
def test_duration(value: float | None, shown: str) -> None:
    assert duration(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (0, "0"), (7, "7"), (7.0, "7"), (7.25, "7.2"), (0.04, "0.0")]
)
def test_number(value: float | None, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), ("chat", "chat"), ("a\nb\x1b[2J", "a?b?[2J"), (["a", "b"], "a, b"), (3, "3")],
)
def test_text_stays_on_its_line(value: object, shown: str) -> None:
    assert text(value) == shown


def test_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tables.moment(None) == "-"
    assert len(tables.moment(0)) == len("1970-01-01 00:00:00")


def worker(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys((column.key for column in tables.STATUS), 0)
    row |= {
        "worker": "chat",
        "id": 0,
        "pid": 71,
        "listen": "websocket://127.0.0.1:9501",
        "state": "ready",
    }
    return {**row, "rss": 20 << 20, "uss": None, "uptime": 65, **changes}


def answer(**changes: Any) -> dict[str, Any]:
    return {
        "name": "chat:handlers",
        "version": "0.1.0",
        "core": "compiled",
        "state": "running",
        "generation": 2,
        "arbiter": {"pid": 70, "uptime": 3700, "rss": 15 << 20, "cpu_percent": 0.5},
        "workers": [worker(), worker(id=1, pid=72, connections=1234)],
        "totals": {"connections": 1234, "rss": 40 << 20},
        "exits": [],
        "last_reload": None,
        **changes,
    }


LOG = "/var/log/gworker/chat.log (default)"


def rendered(made: list[tables.Table]) -> list[str]:
    out = io.StringIO()
    tables.render(made, out)
    return out.getvalue().split("\n")


def test_plain_status_is_aligned_and_complete() -> None:
    lines = rendered(tables.status_tables(answer(), LOG))
    assert lines[0] == "chat:handlers  gworker 0.1.0, compiled core  running  generation 2"
    assert lines[1] == "arbiter pid 70  up 1h01m  rss 15.0M  cpu 0.5%"
    assert lines[2] == "log /var/log/gworker/chat.log (default)"
    headings = lines[3].split()
    assert headings == [column.heading for column in tables.STATUS]
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
    lines = rendered(tables.status_tables(answer(), LOG))
    for heading in ("WORKER", "LISTEN", "STATE"):
        start = lines[3].index(heading)
        assert all(line[start] != " " for line in lines[4:6])
        assert start == 0 or all(line[start - 1] == " " for line in lines[3:6])


def test_who_waits_for_the_next_try_is_listed_with_the_reason() -> None:
    waiting = {"pid": None, "state": "backoff", "reason": "exited\n3", "retry_in": 12.8}
    lines = rendered(
        tables.status_tables(answer(workers=[worker(reason=None), worker(id=1, **waiting)]), LOG)
    )
    position = lines.index("failed, and waiting for the next try")
    assert lines[position + 1].split() == ["WORKER", "ID", "NEXT", "TRY", "IN", "REASON"]
    assert lines[position + 2].split() == ["chat", "1", "13s", "exited?3"]
    assert lines[position + 3] == ""


def test_messages_are_shown_where_they_are_used() -> None:
    broker = {"url": "local", "pid": None, "state": "idle"}
    unused = rendered(tables.status_tables(answer(broker=broker), LOG))
    assert not any("broker" in line or "messages" in line for line in unused)
    figures = {"state": "up", "latency_ms": 0.3, "groups": 2, "subscriptions": 5}
    figures |= {"published": 7, "delivered": 30, "dropped": 1, "gaps": 0}
    rows = [worker(messages=figures), worker(id=1, messages=None)]
    broker = {"url": "redis://***@h/0", "pid": None, "state": None}
    lines = rendered(
        tables.status_tables(answer(workers=rows, broker=broker, totals={"messages": figures}), LOG)
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
    lines = rendered(tables.status_tables(answer(exits=exits, last_reload=last), LOG))
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
    lines = rendered(tables.status_tables(answer(last_reload=last), LOG))
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
    lines = rendered(tables.status_tables(answer(exits=exits), LOG))
    position = lines.index("last exits")
    assert lines[position + 2].split()[:4] == ["chat", "5", "300", "×1"]
    assert lines[position + 3].split()[:4] == ["web", "2", "400", "×1"]
    assert lines[position + 4].split()[:5] == ["chat", "0-3,", "7", "500", "×12"]
    assert lines[position + 4].endswith("42s  exited 3")
    assert lines[position + 5] == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [([], ""), ([3], "3"), ([1, 0, 1], "0-1"), ([9, 0, 1, 2, 4, 7, 8], "0-2, 4, 7-9")],
)
def test_numbers(value: list[int], shown: str) -> None:
    assert tables.numbers(value) == shown


@pytest.mark.parametrize("last", [None, {}, {"ok": None, "error": None, "seconds": None}])
def test_without_a_reload_there_is_no_line_of_it(last: dict[str, None] | None) -> None:
    assert "last reload" not in "".join(
        rendered(tables.status_tables(answer(last_reload=last), LOG))
    )


def test_a_table_without_rows_shows_its_headings() -> None:
    (line, end) = rendered([tables.table(tables.CONNECTIONS, [])])
    assert line.startswith("PID  WORKER  ID")
    assert end == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_on_a_terminal_rich_draws_within_the_width(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    tables.render(
        tables.status_tables(answer(name="[b]y", workers=[worker(worker="[red]x"), worker()]), LOG),
        out,
    )
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert max(map(len, shown.splitlines())) <= width
    assert "[b]y  gworker 0.1.0, compiled core  running  generation 2" in shown
    if width >= 120:
        assert "[red]x" in shown
        assert "1234" in shown
    assert ("TIMERS" in shown) == (width == 200)


def test_what_matters_least_goes_first() -> None:
    full = tables.status_tables(answer(), LOG)[0]
    assert tables.fitting(full, 1000).rows == full.rows
    wide = sum(max(map(len, cells)) + 3 for cells in zip(*full.lines, strict=True))
    assert tables.fitting(full, wide).rows == full.rows
    narrower = tables.fitting(full, wide - 1)
    assert [column.key for column in full.columns if column not in narrower.columns] == [
        "generation"
    ]
    least = tables.fitting(full, 1)
    assert [column.key for column in least.columns] == [
        column.key for column in tables.STATUS if not column.spare
    ]
    assert len(least.rows[0]) == len(least.totals or []) == len(least.columns)


def test_rich_is_left_out_until_something_is_drawn() -> None:
    program = (
        "import sys, gworker.cli.main; print({name.partition('.')[0] for name in sys.modules})"
    )
    output = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=20)
    assert not {"rich", "gevent", "ssl", "asyncio", "concurrent"} & ast.literal_eval(output)
