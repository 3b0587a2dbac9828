"""An answer to the status command, and what is printed of it."""

from __future__ import annotations

import io
from typing import Any

from gworker.cli.status_tables import STATUS
from gworker.cli.tables import Table, render


def worker(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys((column.key for column in STATUS), 0)
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


def rendered(made: list[Table]) -> list[str]:
    out = io.StringIO()
    render(made, out)
    return out.getvalue().split("\n")
