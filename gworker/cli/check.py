"""`gworker check TARGET`: load the target in a child, and print what would run and with which
settings."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from gworker.app.hints import hint_for
from gworker.config.report import Row, as_text, rows
from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.ipc import boot_stage
from gworker.ipc.channel import Channel, pair
from gworker.ipc.declaration import Declaration
from gworker.logs import setup
from gworker.master.children import flush_output
from gworker.master.exit_status import describe
from gworker.master.plan import Plan, make_plan
from gworker.master.watchdog import DUMP_SECONDS
from gworker.master.worker_privileges import check_worker
from gworker.process.bootstrap import Bootstrap
from gworker.system import privileges

FINAL = ("declared", "failed")
"""The last words of a probe child."""


def check(settings: Settings, as_json: bool = False) -> int:
    """Print the listeners and the effective settings; return 0.

    Nothing is bound: a check is possible beside a running instance. Raises ConfigError for what is
    wrong.
    """
    privileges.check(settings.user, settings.group)
    answer = _probe(settings)
    if answer["event"] == "failed":
        sys.stderr.write(answer["traceback"])
        raise ConfigError(answer["reason"])
    declarations = [Declaration(**fields) for fields in answer["workers"]]
    for declaration in declarations:
        check_worker(declaration, settings)
    show = _print_json if as_json else _print
    show(make_plan(declarations, settings.workers, Plan()), settings)
    return 0


def _probe(settings: Settings) -> dict[str, Any]:
    """What the probe child says about the target."""
    ours, theirs = pair()
    flush_output()
    pid = os.fork()
    if pid == 0:
        ours.close()
        setup.configure(2, settings.log_level, settings.log_format, hint_for)
        os._exit(Bootstrap(setup.Outputs(2)).probe(settings, theirs))
    theirs.close()
    words: dict[str, dict[str, Any]] = {}
    in_time = _hear(ours, settings.boot_timeout, words)
    if not in_time:
        os.kill(pid, signal.SIGUSR2)  # its stacks
        _hear(ours, DUMP_SECONDS, words)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return next((words[each] for each in FINAL if each in words), None) or _failure(
        settings, words, status, in_time
    )


def _hear(channel: Channel, seconds: float, words: dict[str, dict[str, Any]]) -> bool:
    """Put what the child says into `words`, by event. True once it has said its last word, or has
    ended."""
    end = time.monotonic() + seconds
    while select.select([channel], [], [], max(0.0, end - time.monotonic()))[0]:
        message, _ = channel.receive()
        if message is None:
            return True
        words[message["event"]] = message
        if message["event"] in FINAL:
            return True
    return False


def _failure(
    settings: Settings, words: dict[str, dict[str, Any]], status: int, in_time: bool
) -> dict[str, Any]:
    """What a child would have said that had no time for it, or crashed."""
    step = words["step"]["step"] if "step" in words else ""
    line = words["position"]["line"] if "position" in words else ""
    if in_time:
        reason = boot_stage.crash(step, settings.target, "", describe(status))
    else:
        reason = boot_stage.lateness(step, settings.target, "", settings.boot_timeout, line)
    return {"event": "failed", "reason": reason, "traceback": ""}


def _print(plan: Plan, settings: Settings) -> None:
    print(f"{settings.target}: ok\n")
    found = [("WORKER", "PROCESSES", "LISTEN")]
    for name, count in plan.counts.items():
        found.append((name, str(count), plan.declarations[name].listen or "-"))
    _table(found)
    print()
    cells = [(row.name, as_text(row.value), row.origin) for row in _rows(plan, settings)]
    _table([("SETTING", "VALUE", "FROM"), *cells])


def _print_json(plan: Plan, settings: Settings) -> None:
    """{"target", "workers": [{"worker", "count", "listen"}], "settings": [{"name", "value",
    "origin"}]}."""
    workers = [
        {"worker": name, "count": count, "listen": plan.declarations[name].listen}
        for name, count in plan.counts.items()
    ]
    found = [row._asdict() for row in _rows(plan, settings)]
    print(json.dumps({"target": settings.target, "workers": workers, "settings": found}, indent=2))


def _rows(plan: Plan, settings: Settings) -> list[Row]:
    return rows(settings, {name: each.limits for name, each in plan.declarations.items()})


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
