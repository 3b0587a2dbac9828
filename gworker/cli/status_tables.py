"""What the status command prints: the instance, its processes, their messages and their ends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from gworker.cli.figures import duration, moment, number, numbers, size, text
from gworker.cli.tables import Column, Row, Table, table

STATUS: Final = (
    Column("worker", "WORKER", text),
    Column("id", "ID"),
    Column("pid", "PID"),
    Column("listen", "LISTEN", text),
    Column("state", "STATE", text),
    Column("generation", "GEN", spare=7),
    Column("uptime", "UPTIME", duration, 1),
    Column("rss", "RSS", size),
    Column("uss", "USS", size, 3),
    Column("cpu_percent", "CPU%", spare=1),
    Column("connections", "CONNS"),
    Column("requests", "REQUESTS", spare=5),
    Column("requests_per_second", "REQ/S"),
    Column("send_queue", "SEND-Q", size, 6),
    Column("send_failures", "FAILS", spare=4),
    Column("exceptions", "EXC", spare=1),
    Column("timers", "TIMERS", spare=6),
    Column("loop_lag_ms", "LAG/MS", spare=2),
)

MESSAGES: Final = (
    Column("worker", "WORKER", text),
    Column("id", "ID"),
    Column("pid", "PID"),
    Column("state", "BROKER", text),
    Column("latency_ms", "LATENCY/MS", spare=2),
    Column("groups", "GROUPS"),
    Column("subscriptions", "SUBS", spare=3),
    Column("published", "PUBLISHED"),
    Column("delivered", "DELIVERED"),
    Column("dropped", "DROPPED"),
    Column("gaps", "GAPS", spare=1),
)

# Equal ends are one row: the pid and the time are the last one's.
EXITS: Final = (
    Column("worker", "WORKER", text),
    Column("ids", "ID", numbers),
    Column("pid", "PID", spare=1),
    Column("times", "TIMES", "×{}".format),
    Column("time", "LAST", moment, spare=2),
    Column("ago", "AGO", duration),
    Column("reason", "REASON", text),
)

WAITS: Final = (
    Column("worker", "WORKER", text),
    Column("id", "ID"),
    Column("retry_in", "NEXT TRY IN", duration),
    Column("reason", "REASON", text),
)


def status_tables(status: Row, log: str) -> list[Table]:
    """The whole answer of the status command. log: where the log is, and what says so."""
    arbiter = status["arbiter"]
    above = [
        f"{text(status['name'])}  gworker {text(status['version'])}, "
        f"{text(status.get('core'))} core"
        f"  {text(status['state'])}  generation {number(status['generation'])}",
        f"arbiter pid {arbiter['pid']}  up {duration(arbiter.get('uptime'))}"
        f"  rss {size(arbiter.get('rss'))}  cpu {number(arbiter.get('cpu_percent'))}%",
        f"log {text(log)}",
    ]
    if (broker := status.get("broker")) and broker.get("state") != "idle":
        above.append(_broker(broker))
    tables = [table(STATUS, status["workers"], above, status.get("totals"))]
    if used := [row for row in status["workers"] if row.get("messages")]:
        rows = [{**row, **row["messages"]} for row in used]
        totals = (status.get("totals") or {}).get("messages")
        tables.append(table(MESSAGES, rows, ["messages between processes"], totals))
    if waits := [row for row in status["workers"] if row.get("reason")]:
        tables.append(table(WAITS, waits, ["failed, and waiting for the next try"]))
    if exits := status.get("exits"):
        tables.append(table(EXITS, _grouped(exits, time.time()), ["last exits"]))
    last = status.get("last_reload") or {}
    if last.get("ok") is not None:
        seconds = duration(last.get("seconds"))
        moved, closed = number(last.get("handed_over")), number(last.get("closed"))
        done = f"ok in {seconds}, connections: {moved} handed over, {closed} closed"
        failed = f"failed after {seconds}: {text(last.get('error'))}"
        how = done if last["ok"] else failed
        tables.append(Table((), [], [f"last reload: {how}"]))
    return tables


def _broker(row: Row) -> str:
    words = [f"broker {text(row['url'])}"]
    if row.get("state"):
        words.append(text(row["state"]))
    if row.get("pid"):
        words += [
            f"pid {row['pid']}",
            f"up {duration(row.get('uptime'))}",
            f"rss {size(row.get('rss'))}",
            f"cpu {number(row.get('cpu_percent'))}%",
        ]
    if row.get("reason"):
        words.append(text(row["reason"]))
    if row.get("retry_in"):
        words.append(f"next try in {duration(row['retry_in'])}")
    return "  ".join(words)


def _grouped(exits: Sequence[Row], now: float) -> list[Row]:
    # One row for all ends of a Worker's processes with the same reason, in the order of the last
    # ones.
    groups: dict[tuple[str, str], list[Row]] = {}
    for each in exits:
        key = each["worker"], each["reason"]
        groups[key] = [*groups.pop(key, []), each]
    return [
        {
            **group[-1],
            "ids": [each["id"] for each in group],
            "times": len(group),
            "ago": max(0.0, now - group[-1]["time"]),
        }
        for group in groups.values()
    ]
