"""Tables in both renderings."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys

import pytest
from status_answer import LOG, answer, rendered, worker

from gworker.cli import tables
from gworker.cli.status_tables import STATUS, status_tables


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
        status_tables(answer(name="[b]y", workers=[worker(worker="[red]x"), worker()]), LOG),
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
    full = status_tables(answer(), LOG)[0]
    assert tables.fitting(full, 1000).rows == full.rows
    wide = sum(max(map(len, cells)) + 3 for cells in zip(*full.lines, strict=True))
    assert tables.fitting(full, wide).rows == full.rows
    narrower = tables.fitting(full, wide - 1)
    assert [column.key for column in full.columns if column not in narrower.columns] == [
        "generation"
    ]
    least = tables.fitting(full, 1)
    assert [column.key for column in least.columns] == [
        column.key for column in STATUS if not column.spare
    ]
    assert len(least.rows[0]) == len(least.totals or []) == len(least.columns)


def test_rich_is_left_out_until_something_is_drawn() -> None:
    program = (
        "import sys, gworker.cli.main; print({name.partition('.')[0] for name in sys.modules})"
    )
    output = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=20)
    assert not {"rich", "gevent", "ssl", "asyncio", "concurrent"} & ast.literal_eval(output)
