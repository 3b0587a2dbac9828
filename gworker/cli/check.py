"""`gworker check TARGET`: load the target in a child, and print what would run and with which
settings."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time

from gworker.app.attribute_names import hint_for
from gworker.cli import broker_check
from gworker.cli.figures import NONE
from gworker.cli.tables import write_aligned
from gworker.config.report import as_text, rows
from gworker.config.settings import Settings
from gworker.core import IMPLEMENTATION
from gworker.errors import ConfigError
from gworker.ipc import boot_stage
from gworker.ipc.channel import Channel, pair
from gworker.ipc.declaration import Declaration
from gworker.ipc.fd_socket import Message
from gworker.logs import setup
from gworker.master.children import flush_output
from gworker.master.exit_status import describe
from gworker.master.plan import Plan, make_plan
from gworker.master.watchdog import DUMP_SECONDS
from gworker.master.worker_privileges import check_worker
from gworker.process.bootstrap import Bootstrap
from gworker.system import privileges

FINAL = ("declared", "failed")  # the last messages of a probe child


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
    broker_check.examine(settings)
    plan = make_plan(declarations, settings.workers, Plan())
    workers = [
        (name, count, plan.declarations[name].listen, plan.declarations[name].serves)
        for name, count in plan.counts.items()
    ]
    found = rows(settings, {name: each.limits for name, each in plan.declarations.items()})
    if as_json:
        keys = ("worker", "count", "listen", "serves")
        listed = [dict(zip(keys, each, strict=True)) for each in workers]
        said = {"target": settings.target, "core": IMPLEMENTATION, "workers": listed}
        print(json.dumps({**said, "settings": [row._asdict() for row in found]}, indent=2))
        return 0
    print(f"{settings.target}: ok\n")
    print(f"The message path runs with the {IMPLEMENTATION} core.\n")
    shown = [(name, str(count), listen or NONE, serves) for name, count, listen, serves in workers]
    write_aligned(lambda: [("WORKER", "PROCESSES", "LISTEN", "SERVES"), *shown], sys.stdout)
    print()
    cells = [(row.name, as_text(row.value), row.origin) for row in found]
    write_aligned(lambda: [("SETTING", "VALUE", "FROM"), *cells], sys.stdout)
    return 0


def _probe(settings: Settings) -> Message:
    # Returns the last message of a probe child.
    ours, theirs = pair()
    flush_output()
    pid = os.fork()
    if pid == 0:
        ours.close()
        setup.configure(2, settings.log_level, settings.log_format, hint_for)
        os._exit(Bootstrap(setup.Outputs(2)).probe(settings, theirs))
    theirs.close()
    received: dict[str, Message] = {}
    in_time = _receive(ours, settings.boot_timeout, received)
    if not in_time:
        os.kill(pid, signal.SIGUSR2)  # its stacks
        _receive(ours, DUMP_SECONDS, received)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if final := received.get("declared") or received.get("failed"):
        return final
    # It had no time for that, or crashed.
    step = received.get("step", {}).get("step", "")
    if in_time:
        reason = boot_stage.crash(step, settings.target, "", describe(status))
    else:
        line = received.get("position", {}).get("line", "")
        reason = boot_stage.lateness(step, settings.target, "", settings.boot_timeout, line)
    return {"event": "failed", "reason": reason, "traceback": ""}


def _receive(channel: Channel, seconds: float, received: dict[str, Message]) -> bool:
    # Messages, by event. True: the child has sent its last one, or ended.
    end = time.monotonic() + seconds
    while select.select([channel], [], [], max(0.0, end - time.monotonic()))[0]:
        message, _ = channel.receive()
        if message is None:
            return True
        received[message["event"]] = message
        if message["event"] in FINAL:
            return True
    return False
