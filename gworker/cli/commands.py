"""The commands: talk to the arbiter of an instance, print its answer, return the exit code.

None of them handles what a user can do wrong: `cli.main` turns GworkerError into a line on stderr
and an exit code (1, or 3 for NotRunning).

What goes over the control socket, {"command", …} -> replies:

    stop, quick                   {"timeout": seconds}, {"step"}…; then the arbiter ends
    reload, wait                  {"step"}…, {"exit": 0} or {"exit": 1, "error"}
    upgrade                       likewise
    scale, worker, count          likewise
    status                        {"status": {…}, "log": where it is}, {"exit": 0}
    settings                      {"settings": {"rows", "pending"}}, {"exit": 0}
    health, worker                {"health": [{"worker", "processes", "serving"}]}, {"exit"}
    connections, worker, limit    {"pid"} with a sealed memory file of rows for each process (see
                                  `connection_list`), then {"exit": 0, "missing": [pids]}
    who                           {"who": {…}}, {"exit": 0}
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from gworker.cli import control_client, tables
from gworker.cli.connection_list import Listed
from gworker.cli.connection_list import as_json as listed_as_json
from gworker.cli.control_client import SILENCE, ControlError, Gone, Overdue, Reply, Silent
from gworker.cli.figures import NONE
from gworker.cli.instances import Instance, NotRunning, find, scan
from gworker.cli.status_tables import status_tables
from gworker.config import report
from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.system.daemon import Launch, daemonize

HEALTH_TIMEOUT = 5.0  # a probe asks, and has little time itself
WHO_TIMEOUT = 2.0  # per instance in `list`, so that one that hangs does not hide the others
STOP_MARGIN = 10.0  # seconds over what the arbiter says it needs


@dataclass(frozen=True, slots=True)
class Selection:
    """Which running instance is meant: by pid file, else by name, else the only one."""

    runtime_dirs: Sequence[str]
    name: str | None = None
    pid_file: str | None = None
    alias: str | None = None  # a name that it may have instead

    def find(self) -> Instance:
        try:
            return find(self.runtime_dirs, self.name, self.pid_file)
        except NotRunning:
            if self.alias is None:
                raise
        return find(self.runtime_dirs, self.alias)


def start(settings: Settings) -> int:
    """Serve until told to stop. With `daemon` the starting command leaves by SystemExit once that
    is ready, or has failed."""
    # Before the forks: their import errors belong on the terminal.
    from gworker.cli.serve import serve
    from gworker.master.systemd import take
    from gworker.master.upgrade import inherited

    document = inherited(settings)
    invocation = take(os.environ, os.getpid())  # before the fork: it names this very process
    if settings.umask is not None:
        os.umask(settings.umask)  # before any file is made
    in_background = settings.daemon and document is None
    launch = daemonize(settings.stdout_file) if in_background else Launch()
    try:
        return serve(settings, launch, invocation, document)
    except ConfigError as error:
        launch.failed(f"gworker: error: {error}")
        return 1
    except Exception:
        if settings.daemon:
            launch.failed(traceback.format_exc())  # stderr may be closed by now
        raise


def restart(settings: Settings, selection: Selection) -> int:
    from gworker.master.upgrade import is_pending

    if is_pending():  # this is that instance, with new code
        return start(settings)
    with suppress(NotRunning):
        if code := stop(selection.find(), quick=False):
            return code
    return start(settings)


def check(settings: Settings, as_json: bool = False) -> int:
    """Load the target in a child process, print what it declares and the effective settings.

    Without a target: print whether this machine is fit to serve.
    """
    if settings.target is None:
        from gworker.cli import machine_check

        return machine_check.check(settings, as_json)
    from gworker.cli import check as target_check

    return target_check.check(settings, as_json)


def print_config(settings: Settings) -> int:
    sys.stdout.write(report.as_toml(report.rows(settings)))
    return 0


def settings(instance: Instance, as_json: bool) -> int:
    answer = control_client.ask(instance, "settings")["settings"]
    rows = [report.Row._make(row) for row in answer["rows"]]
    if as_json:
        shown = {"settings": [row._asdict() for row in rows], "pending": answer["pending"]}
        print(json.dumps(shown, indent=2))
    else:
        sys.stdout.write(report.as_toml(rows, answer["pending"]))
    return 0


def stop(instance: Instance, quick: bool) -> int:
    """Stop the instance and wait for its end, which is the answer.

    The arbiter keeps its own deadlines. Its timeout and a margin are for one that cannot end its
    processes.
    """
    try:
        arbiter = os.pidfd_open(instance.pid)  # its number may be given to another process
    except ProcessLookupError:
        raise NotRunning(f"{instance.label} is not running") from None
    with open(arbiter, "rb", buffering=0):
        return _stop(instance, quick, arbiter)


def _stop(instance: Instance, quick: bool, arbiter: int) -> int:
    patience = SILENCE
    try:
        with closing(control_client.connect(instance)) as connection:
            for reply in connection.call("stop", quick=quick):
                if "timeout" in reply:
                    patience = reply["timeout"] + STOP_MARGIN
                    connection.end = time.monotonic() + patience
                _show_step(reply)
            if code := _exit_code(reply):
                return code
    except Gone:
        pass
    except Overdue:
        patience = 0.0
    except NotRunning:
        # It holds its pid file but has no socket: it starts or ends, or the file was removed.
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(arbiter, signal.SIGQUIT if quick else signal.SIGTERM)
    if not select.select([arbiter], [], [], patience)[0]:
        print(f"gworker: error: {instance} is still there", file=sys.stderr)
        return 1
    print(f"{instance.label} stopped", flush=True)
    return 0


def follow(instance: Instance, command: str, **arguments: Any) -> int:
    """Run a command that reports steps and then how it went: reload, upgrade, scale."""
    with closing(control_client.connect(instance)) as connection:
        for reply in connection.call(command, **arguments):
            _show_step(reply)
    return _exit_code(reply)


def _show_step(reply: Reply) -> None:
    if "step" in reply:
        print(reply["step"], flush=True)


def _exit_code(reply: Reply) -> int:
    if error := reply.get("error"):
        sys.stderr.write(reply.get("traceback") or "")
        if note := reply.get("note"):
            print(f"gworker: note: {note}", file=sys.stderr)
        print(f"gworker: error: {error}", file=sys.stderr)
    return int(reply["exit"])


def status(instance: Instance, as_json: bool) -> int:
    reply = control_client.ask(instance, "status")
    if as_json:
        print(json.dumps(reply["status"], indent=2))
    else:
        shown = status_tables(reply["status"], reply.get("log", NONE))
        tables.render(shown, sys.stdout)
    return 0


def health(instance: Instance, worker: str | None) -> int:
    with closing(control_client.connect(instance, HEALTH_TIMEOUT)) as connection:
        for reply in connection.call("health", worker=worker):
            for row in reply.get("health", ()):
                print(
                    f"{row['worker']}: {row['serving']} of {row['processes']} processes serve",
                    flush=True,
                )
    return _exit_code(reply)


def watch(show: Callable[[], object]) -> int:
    gc.enable()  # a command is too short for it, this one is not
    clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
    with suppress(KeyboardInterrupt):
        while True:
            sys.stdout.write(clear)
            show()
            sys.stdout.flush()
            time.sleep(1.0)
    return 0


def connections(instance: Instance, as_json: bool, worker: str | None, limit: int | None) -> int:
    """Print the connections of the instance, or of one Worker; limit: rows at most."""
    with closing(Listed(limit)) as listed:
        with closing(control_client.connect(instance)) as connection:
            for reply in connection.call("connections", worker=worker, limit=limit):
                while reply.fds:
                    listed.add(reply["pid"], reply.fds.pop())
        if as_json:
            sys.stdout.writelines(listed_as_json(iter(listed)))
        else:
            tables.stream(tables.CONNECTIONS, listed, sys.stdout)
        sys.stdout.flush()
        _note(reply.get("missing"), "no answer from process {}: its connections are not listed")
        _note(
            listed.senseless,
            "what process {} has answered makes no sense: not all of its connections are listed",
        )
    return _exit_code(reply)


def _note(pids: Iterable[int] | None, what: str) -> None:
    if pids:
        print(f"gworker: note: {what.format(', '.join(map(str, sorted(pids))))}", file=sys.stderr)


def instances(runtime_dirs: Sequence[str]) -> int:
    rows = [_who(instance) for instance in scan(runtime_dirs)]
    if rows:
        tables.render([tables.table(tables.INSTANCES, rows)], sys.stdout)
    else:
        print("no instance is running")
    return 0


def _who(instance: Instance) -> dict[str, Any]:
    import psutil  # here: it takes longer than most commands do

    row: dict[str, Any] = {"name": instance.label, "pid": instance.pid}
    with suppress(psutil.Error):
        row["uptime"] = max(0.0, time.time() - psutil.Process(instance.pid).create_time())
    try:
        row |= control_client.ask(instance, "who", WHO_TIMEOUT)["who"]
    except Silent as error:
        print(f"gworker: note: {error}", file=sys.stderr)
    except (NotRunning, ControlError):
        pass  # it starts or ends
    return row
