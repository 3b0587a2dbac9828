"""The commands: what each takes from the command line, and what it does.

It knows no parsing: `main` makes the parsers from this table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from gworker.cli import commands
from gworker.cli.commands import Selection
from gworker.config import settings as config
from gworker.config import sources
from gworker.config.options import OPTIONS, Option, default_runtime_dirs
from gworker.config.parsers import whole
from gworker.config.settings import Settings
from gworker.errors import GworkerError

IDENTITY: Final = tuple(option for option in OPTIONS if option.identity)


class NoTarget(GworkerError):
    """Nothing says what to serve: wrong usage."""

    def __init__(self) -> None:
        super().__init__(
            "a TARGET is missing: give one here, in GWORKER_TARGET or in gworker.toml; or give a "
            "command"
        )


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what it takes and what it does. `arguments` adds what is its own to the
    parser."""

    help: str
    run: Callable[[argparse.Namespace], int]
    options: tuple[Option, ...] = IDENTITY
    target: bool = True  # takes one, which may be left out
    arguments: Callable[[argparse.ArgumentParser], object] = lambda parser: None


def _settings(arguments: argparse.Namespace, needs_target: bool = True) -> Settings:
    given = sources.sources(
        arguments.target,
        config.command_line(arguments),
        arguments.script,
        vars(arguments).get("static"),
    )
    settings = given.read()
    if needs_target and settings.target is None:
        raise NoTarget
    return settings


def selection(arguments: argparse.Namespace) -> Selection:
    """The instance that is meant: what the command line says, else what `gworker` with this file
    would be called."""
    target: str | None = vars(arguments).get("target")
    given = config.command_line(arguments).values
    values, notes = sources.look_up_instance(config.command_line(arguments))
    for note in notes:
        print(f"gworker: note: {note}", file=sys.stderr)
    named: Any = values["runtime_dir"].value
    directories = (named,) if named is not None else default_runtime_dirs()
    name: Any = values["name"].value or values["target"].value
    pid: Any = values["pid"].value
    if "pid" in given or not (name or target):
        return Selection(directories, name or target, pid)
    if target is None or "name" in given:
        return Selection(directories, name)
    # An instance of this target is called so, unless a lower layer gives it a name.
    alias: Any = values["name"].value if values["target"].value in (None, target) else None
    return Selection(directories, target, alias=alias)


def start_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="load the target, show what would run, start nothing"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="show the effective settings, start nothing"
    )


GRACEFUL: Final = "gracefully, as without it (for users of Workerman)"


def _stop_arguments(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="without grace")
    how.add_argument("-g", action="store_true", help=GRACEFUL)


def _reload_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-wait", action="store_true", help="return at once")
    parser.add_argument("-g", action="store_true", help=GRACEFUL)


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def _run_start(arguments: argparse.Namespace) -> int:
    if arguments.print_config:
        return commands.print_config(_settings(arguments, needs_target=False))
    if arguments.check:
        return commands.check(_settings(arguments))
    return commands.start(_settings(arguments))


def _run_check(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments, needs_target=False)
    return commands.check(settings, arguments.json)


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--settings", action="store_true", help="the settings in force, and where each comes from"
    )
    parser.add_argument("--json", action="store_true", help="for programs: raw figures")
    parser.add_argument(
        "-d", "--watch", action="store_true", help="again every second until Ctrl-C"
    )


def _connections_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: raw figures")
    parser.add_argument("--worker", metavar="NAME", help="only connections of this Worker")
    parser.add_argument("--limit", metavar="N", type=_count, help="at most N rows")


def _scale_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("worker", metavar="NAME", help="the Worker")
    parser.add_argument("count", metavar="N", type=_count, help="how many processes it shall have")


def _count(given: str) -> int:
    try:
        return whole(1)(given)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{given!r} is not valid, expected {error}") from None


def _run_status(arguments: argparse.Namespace) -> int:
    if arguments.settings:
        return commands.settings(selection(arguments).find(), arguments.json)

    def show() -> int:
        return commands.status(selection(arguments).find(), arguments.json)

    return commands.watch(show) if arguments.watch else show()


def _run_connections(arguments: argparse.Namespace) -> int:
    instance = selection(arguments).find()
    return commands.connections(instance, arguments.json, arguments.worker, arguments.limit)


# fmt: off
COMMANDS: Final[dict[str, Command]] = {
    "start": Command(
        "start serving TARGET",
        _run_start, OPTIONS, arguments=start_arguments,
    ),
    "stop": Command(
        "stop an instance and wait for its end",
        lambda given: commands.stop(selection(given).find(), given.quick),
        arguments=_stop_arguments,
    ),
    "restart": Command(
        "stop TARGET if it runs, then start it with the options given",
        lambda given: commands.restart(_settings(given), selection(given)), OPTIONS,
        arguments=lambda parser: parser.add_argument("-g", action="store_true", help=GRACEFUL),
    ),
    "reload": Command(
        "replace all worker processes by freshly loaded ones; no client is refused",
        lambda given: commands.follow(selection(given).find(), "reload", wait=not given.no_wait),
        arguments=_reload_arguments,
    ),
    "status": Command("show the processes of an instance", _run_status,
    arguments=_status_arguments),
    "connections": Command("show its connections", _run_connections,
    arguments=_connections_arguments),
    "health": Command(
        "exit 0 if every Worker has a process that serves, else 1 with the reason",
        lambda given: commands.health(selection(given).find(), given.worker),
        arguments=lambda parser: parser.add_argument("--worker", metavar="NAME",
        help="ask of this Worker only"),
    ),
    "scale": Command(
        "change how many processes a Worker has: scale NAME N",
        lambda given: commands.follow(
            selection(given).find(), "scale", worker=given.worker, count=given.count
        ),
        arguments=_scale_arguments,
    ),
    "upgrade": Command(
        "replace the arbiter's own code in place, with the same pid, then reload",
        lambda given: commands.follow(selection(given).find(), "upgrade"),
    ),
    "list": Command(
        "show the running instances",
        lambda given: commands.instances(selection(given).runtime_dirs),
        tuple(option for option in IDENTITY if option.name in ("runtime-dir", "config")), False,
    ),
    "check": Command(
        "load TARGET, show its listeners and the effective settings; without one: is this "
        "machine fit?",
        _run_check, OPTIONS, arguments=_check_arguments,
    ),
}
# fmt: on
