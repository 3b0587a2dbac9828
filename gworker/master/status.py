"""What `gworker status` shows, taken from the instance's view, the scoreboard and psutil."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from gworker.config.settings import Settings
from gworker.core import IMPLEMENTATION
from gworker.ipc.heartbeat import lag
from gworker.ipc.scoreboard import BROKER_STATES, COUNTERS, Column, Row
from gworker.master.health import is_busy
from gworker.master.instance_view import InstanceView
from gworker.master.process_stats import Sampler
from gworker.master.slots import Process, Slot
from gworker.version import __version__

SUMS = (
    "rss",
    "uss",
    "cpu_percent",
    "connections",
    "requests",
    "requests_per_second",
    "bytes_read",
    "bytes_written",
    "send_queue",
    "send_failures",
    "exceptions",
    "timers",
)


# Those of the figures of messages that are summed up.
MESSAGES = ("groups", "subscriptions", "published", "delivered", "dropped", "gaps")


def report(view: InstanceView, sampler: Sampler) -> dict[str, Any]:
    rss, cpu = sampler.own()
    rows = [row for slot in _ordered(view) for row in _rows(view, sampler, slot)]
    return {
        "name": view.fleet.settings.name,
        "version": __version__,
        "core": IMPLEMENTATION,
        "state": view.state,
        "generation": view.fleet.generation,
        "arbiter": {
            "pid": os.getpid(),
            "uptime": round(view.now - view.started, 1),
            "rss": rss,
            "cpu_percent": cpu,
        },
        "broker": _broker(view, sampler),
        "workers": rows,
        "totals": _totals(view, rows),
        "exits": [asdict(each) for each in view.fleet.exits],
        "last_reload": view.last_reload,
    }


def _broker(view: InstanceView, sampler: Sampler) -> dict[str, Any]:
    broker, now = view.fleet.broker, view.now
    row: dict[str, Any] = {"url": str(view.fleet.settings.broker), "pid": None, "state": "idle"}
    if (process := broker.current) is not None:
        rss, uss = sampler.memory(process.pid)
        return {
            **row,
            "pid": process.pid,
            "state": "busy" if is_busy(process, now) else process.state.value,
            "uptime": round(now - process.started, 1),
            "rss": rss,
            "uss": uss,
            "cpu_percent": process.cpu_percent,
        }
    if view.fleet.settings.broker.is_redis:
        return {**row, "state": None}  # it is not ours
    if not view.fleet.listeners.broker.address:
        return {**row, "state": "none", "reason": "the instance has no runtime files"}
    if (left := broker.retry_at - now) > 0:
        return {**row, "state": "backoff", "reason": broker.reason, "retry_in": round(left, 1)}
    return row


def ready_message(view: InstanceView) -> str:
    places = view.fleet.plan.places()
    urls = {url for place in places if (url := view.listen_url(place)) is not None}
    where = " on " + ", ".join(sorted(urls)) if urls else ""
    count, settings = len(places), view.fleet.settings
    log = f", log {settings.log_file}" if settings.daemon else ""
    return (
        f"gworker {settings.name} is ready: {count} process{'es' * (count > 1)}{where} (pid "
        f"{os.getpid()}){log}"
    )


def log_target(settings: Settings) -> str:
    """Where the log is, and the origin of that setting."""
    return f"{settings.log_file or 'stderr'} ({settings.origins.get('log_file', 'default')})"


def _ordered(view: InstanceView) -> list[Slot]:
    names = list(view.fleet.plan.counts)
    return sorted(
        view.fleet.slots.values(),
        key=lambda slot: (
            names.index(slot.worker) if slot.worker in names else len(names),
            slot.worker,
            slot.id,
        ),
    )


def _rows(view: InstanceView, sampler: Sampler, slot: Slot) -> list[dict[str, Any]]:
    return [
        {**_row(view, sampler, process), **_wait(view, slot, process)}
        for process in slot.processes()
    ] or [_empty_row(view, slot)]


def _row(view: InstanceView, sampler: Sampler, process: Process) -> dict[str, Any]:
    now = view.now
    rss, uss = sampler.memory(process.pid)
    row = process.row
    return {
        "worker": process.worker,
        "id": process.id,
        "pid": process.pid,
        "listen": view.listen_url((process.worker, process.id)),
        "state": "busy" if is_busy(process, now) else process.state.value,
        "generation": process.generation,
        "uptime": round(now - process.started, 1),
        "rss": rss,
        "uss": uss,
        "cpu_percent": process.cpu_percent,
        "connections": row[Column.CONNECTIONS],
        "requests": row[Column.REQUESTS],
        "requests_per_second": process.requests_per_second,
        "bytes_read": row[Column.BYTES_READ],
        "bytes_written": row[Column.BYTES_WRITTEN],
        "send_queue": row[Column.SEND_QUEUE],
        "send_failures": row[Column.SEND_FAILURES],
        "exceptions": row[Column.EXCEPTIONS],
        "timers": row[Column.TIMERS],
        "loop_lag_ms": round(lag(row, now) * 1000, 1) if row[Column.BEAT] else 0.0,
        "messages": _messages(row),
    }


def _messages(row: Row) -> dict[str, Any] | None:
    # None: the process uses none.
    if not row[Column.BROKER]:
        return None
    return {
        "state": BROKER_STATES[row[Column.BROKER] - 1],
        "latency_ms": round(row[Column.BROKER_LATENCY_US] / 1000, 2),
        **{name: row[Column[name.upper()]] for name in MESSAGES},
    }


def _wait(view: InstanceView, slot: Slot, process: Process) -> dict[str, Any]:
    # Why `process` still serves though it was to have a successor, and in how many seconds the next
    # try is.
    left = slot.retry_at - view.now
    if process is slot.current and slot.wants_successor and left > 0:
        return {"reason": slot.reason, "retry_in": round(left, 1)}
    return {}


def _empty_row(view: InstanceView, slot: Slot) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("uptime", *SUMS, "loop_lag_ms"), 0)
    return {
        "worker": slot.worker,
        "id": slot.id,
        "pid": None,
        "listen": view.listen_url(slot.place),
        "state": "backoff",
        "generation": view.fleet.generation,
        **row,
        "messages": None,
        "reason": slot.reason or None,
        "retry_in": round(max(0.0, slot.retry_at - view.now), 1),
    }


def _totals(view: InstanceView, rows: list[dict[str, Any]]) -> dict[str, Any]:
    # Sums over the rows; counters include those of processes that are dead, so they never go back.
    totals = {name: round(sum(row[name] for row in rows), 1) for name in SUMS}
    totals["processes"] = sum(row["pid"] is not None for row in rows)
    messages = _messages_of_all([row["messages"] for row in rows if row["messages"]])
    for index, column in enumerate(COUNTERS):
        name = column.name.lower()
        dead = (view.fleet.gone, *(slot.totals for slot in view.fleet.slots.values()))
        for sums in (totals, messages or {}):
            if name in sums:
                sums[name] += sum(counters[index] for counters in dead)
    return {**totals, "messages": messages}


def _messages_of_all(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    # The worst state, the longest latency, and sums.
    if not rows:
        return None
    return {
        "state": min((row["state"] for row in rows), key=BROKER_STATES.index),
        "latency_ms": max(row["latency_ms"] for row in rows),
        **{name: sum(row[name] for row in rows) for name in MESSAGES},
    }
