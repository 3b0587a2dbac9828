"""`gworker check TARGET`: load the target in a child, and print what would run and with which settings."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Sequence
from typing import Any

from gworker import identity
from gworker.channel import pair
from gworker.child import Child
from gworker.children import flush_output
from gworker.config import Settings, effective
from gworker.errors import ConfigError
from gworker.exits import describe
from gworker.plan import Plan, make_plan
from gworker.worker import Declaration


def check(settings: Settings) -> int:
    """Print the listeners and the effective settings; return 0, or 1 after saying what is wrong.

    Nothing is bound: a check is possible beside a running instance. Raises ConfigError.
    """
    identity.check(settings.user, settings.group)
    if settings.chdir is not None:
        os.chdir(settings.chdir)
    answer = _probe(settings)
    if answer["event"] == "failed":
        sys.stderr.write(answer["traceback"])
        raise ConfigError(answer["reason"])
    declarations = [Declaration(**fields) for fields in answer["workers"]]
    for declaration in declarations:
        identity.check(declaration.user, declaration.group)
    _print(make_plan(declarations, settings.workers, Plan(), {}), settings)
    return 0


def _probe(settings: Settings) -> dict[str, Any]:
    """What the probe child says about the target."""
    ours, theirs = pair()
    flush_output()
    pid = os.fork()
    if pid == 0:
        ours.close()
        os._exit(Child(settings, 2).probe(theirs))
    theirs.close()
    end = time.monotonic() + settings.boot_timeout
    readable, _, _ = select.select([ours], [], [], max(0.0, end - time.monotonic()))
    if not readable:
        os.kill(pid, 9)
    answer, _ = ours.receive() if readable else (None, [])
    _, status = os.waitpid(pid, 0)
    if answer is not None:
        return answer
    reason = describe(status) if readable else f"was not loaded within {settings.boot_timeout:g} s"
    return {"event": "failed", "reason": f"target {settings.target!r}: {reason}", "traceback": ""}


def _print(plan: Plan, settings: Settings) -> None:
    print(f"{settings.target}: ok\n")
    rows = [("WORKER", "PROCESSES", "LISTEN")]
    for name, count in plan.counts.items():
        rows.append((name, str(count), plan.declarations[name].listen or "-"))
    _table(rows)
    print()
    _table([("SETTING", "VALUE", "FROM"), *effective(settings), *_of_workers(plan, settings)])


def _of_workers(plan: Plan, settings: Settings) -> list[tuple[str, str, str]]:
    """The limits that Workers set for themselves, where the command line does not override them."""
    return [
        (key.replace("_", "-"), str(value), f"Worker {name}")
        for name, declaration in plan.declarations.items()
        for key, value in declaration.limits.items()
        if key not in settings.limits
    ]


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
