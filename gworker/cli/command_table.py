"""The commands: what each takes from the command line, and what it does.

It knows no parsing: `main` makes the parsers from this table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

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


Argument = Callable[[argparse._ActionsContainer], object]  # adds one to a parser


def _flag(*names: str, help: str) -> Argument:
    return lambda parser: parser.add_argument(*names, action="store_true", help=help)


def _value(name: str, metavar: str, help: str, type: Callable[[str], object] = str) -> Argument:
    return lambda parser: parser.add_argument(name, metavar=metavar, help=help, type=type)


@dataclass(frozen=True, slots=True)
class Command:
    help: str
    run: Callable[[argparse.Namespace], int]
    options: tuple[Option, ...] = IDENTITY
    target: bool = True  # takes one, which may be left out
    arguments: tuple[Argument, ...] = ()

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        for add in self.arguments:
            add(parser)


def _settings(arguments: argparse.Namespace, needs_target: bool = True) -> Settings:
    settings = sources.Sources(
        arguments.target,
        config.command_line(arguments),
        arguments.script,
        vars(arguments).get("static"),
    ).read()
    if needs_target and settings.target is None:
        raise NoTarget(
            "a TARGET is missing: give one here, in GWORKER_TARGET or in gworker.toml; or give a "
            "command"
        )
    return settings


def selection(arguments: argparse.Namespace) -> Selection:
    """The instance that is meant: what the command line says, else what `gworker` with this file
    would be called."""
    target: str | None = vars(arguments).get("target")
    typed = config.command_line(arguments)
    values, note = sources.look_up_instance(typed)
    if note:
        print(f"gworker: note: {note}", file=sys.stderr)
    directory, own_name, own_target, pid = (
        values[key].value for key in ("runtime_dir", "name", "target", "pid")
    )
    directories = (directory,) if directory is not None else default_runtime_dirs()
    name = own_name or own_target
    if "pid" in typed.values or not (name or target):
        return Selection(directories, name or target, pid)
    if target is None or "name" in typed.values:
        return Selection(directories, name)
    # An instance of this target is called so, unless a lower layer gives it a name.
    return Selection(directories, target, alias=own_name if own_target in (None, target) else None)


COUNT: Final = Option(("count",), whole(1), None, "N", "a number of rows or processes").value
GRACEFUL: Final = _flag("-g", help="gracefully, as without it (for users of Workerman)")
JSON: Final = _flag("--json", help="for programs: raw figures")


def _stop_arguments(parser: argparse._ActionsContainer) -> None:
    how = parser.add_mutually_exclusive_group()
    _flag("--quick", help="without grace")(how)
    GRACEFUL(how)


def _run_start(arguments: argparse.Namespace) -> int:
    if arguments.print_config:
        return commands.print_config(_settings(arguments, needs_target=False))
    if arguments.check:
        return commands.check(_settings(arguments))
    return commands.start(_settings(arguments))


def _run_status(arguments: argparse.Namespace) -> int:
    if arguments.settings:
        return commands.settings(selection(arguments).find(), arguments.json)

    def show() -> int:
        return commands.status(selection(arguments).find(), arguments.json)

    return commands.watch(show) if arguments.watch else show()


def _run_publish(arguments: argparse.Namespace) -> int:
    from gworker.cli.publish import publish  # here: it takes longer than most commands do

    # An instance that is named has its own broker, whatever a file says here.
    typed = config.command_line(arguments)
    settings = sources.Sources(None, typed).read()
    is_named = "broker" not in typed.values and not typed.values.keys().isdisjoint(("name", "pid"))
    is_given = settings.broker.is_redis and not is_named
    instance = None if is_given else selection(arguments).find()
    return publish(arguments.group_name, arguments.text, settings, instance)


COMMANDS: Final[dict[str, Command]] = {
    "start": Command(
        "start serving TARGET",
        _run_start,
        OPTIONS,
        arguments=(
            _flag("--check", help="load the target, show what would run, start nothing"),
            _flag("--print-config", help="show the effective settings, start nothing"),
        ),
    ),
    "stop": Command(
        "stop an instance and wait for its end",
        lambda given: commands.stop(selection(given).find(), given.quick),
        arguments=(_stop_arguments,),
    ),
    "restart": Command(
        "stop TARGET if it runs, then start it with the options given",
        lambda given: commands.restart(_settings(given), selection(given)),
        OPTIONS,
        arguments=(GRACEFUL,),
    ),
    "reload": Command(
        "replace all worker processes by freshly loaded ones; no client is refused",
        lambda given: commands.follow(selection(given).find(), "reload", wait=not given.no_wait),
        arguments=(_flag("--no-wait", help="return at once"), GRACEFUL),
    ),
    "status": Command(
        "show the processes of an instance",
        _run_status,
        arguments=(
            _flag("--settings", help="the settings in force, and where each comes from"),
            JSON,
            _flag("-d", "--watch", help="again every second until Ctrl-C"),
        ),
    ),
    "connections": Command(
        "show its connections",
        lambda given: commands.connections(
            selection(given).find(), given.json, given.worker, given.limit
        ),
        arguments=(
            JSON,
            _value("--worker", "NAME", "only connections of this Worker"),
            _value("--limit", "N", "at most N rows", COUNT),
        ),
    ),
    "health": Command(
        "exit 0 if every Worker has a process that serves, else 1 with the reason",
        lambda given: commands.health(selection(given).find(), given.worker),
        arguments=(_value("--worker", "NAME", "ask of this Worker only"),),
    ),
    "publish": Command(
        "send a text to all members of a group: publish GROUP TEXT",
        _run_publish,
        (*IDENTITY, *(option for option in OPTIONS if option.name in ("broker", "cluster-name"))),
        target=False,
        arguments=(
            _value("group_name", "GROUP", "the group"),
            _value("text", "TEXT", "the message; - reads it from stdin"),
        ),
    ),
    "scale": Command(
        "change how many processes a Worker has: scale NAME N",
        lambda given: commands.follow(
            selection(given).find(), "scale", worker=given.worker, count=given.count
        ),
        arguments=(
            _value("worker", "NAME", "the Worker"),
            _value("count", "N", "how many processes it shall have", COUNT),
        ),
    ),
    "upgrade": Command(
        "replace the arbiter's own code in place, with the same pid, then reload",
        lambda given: commands.follow(selection(given).find(), "upgrade"),
    ),
    "list": Command(
        "show the running instances",
        lambda given: commands.instances(selection(given).runtime_dirs),
        tuple(option for option in IDENTITY if option.name in ("runtime-dir", "config")),
        target=False,
    ),
    "check": Command(
        "load TARGET, show its listeners and the effective settings; without one: is this "
        "machine fit?",
        lambda given: commands.check(_settings(given, needs_target=False), given.json),
        OPTIONS,
        arguments=(_flag("--json", help="for programs"),),
    ),
}
