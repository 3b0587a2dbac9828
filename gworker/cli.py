"""The command line: which command, with which arguments, and the exit code.

    gworker [start] TARGET [options]          gworker COMMAND [TARGET] [options]
    gworker --script FILE SETTINGS COMMAND [options]
        what `python FILE …` becomes: FILE is the TARGET, and SETTINGS what it says itself (static_settings.py)

The first word that is not an option (nor an option's value) is the command if it is one, else the TARGET of
`start`; so options may stand anywhere. A target called like a command is reached by `gworker start NAME`. Without
any word it is `start` as well, and the TARGET comes from the environment or a file (sources.py); a script without
a command shows its usage.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not running, 130 interrupted.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, NoReturn

from gworker import commands, config, directory, sources, static_settings
from gworker.commands import Selection
from gworker.config import OPTIONS, Option, Settings
from gworker.errors import GworkerError
from gworker.instances import NotRunning
from gworker.stdio import fill_standard
from gworker.values import near, whole
from gworker.version import __version__

IDENTITY: Final = tuple(option for option in OPTIONS if option.identity)
NOT_RUNNING = 3


class NoTarget(GworkerError):
    """Nothing says what to serve: wrong usage."""

    def __init__(self) -> None:
        super().__init__("a TARGET is missing: give one here, in GWORKER_TARGET or in gworker.toml; or give a command")


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what it takes and what it does. `arguments` adds what is its own to the parser."""

    help: str
    run: Callable[[argparse.Namespace], int]
    options: tuple[Option, ...] = IDENTITY
    target: bool = True  # takes one, which may be left out
    arguments: Callable[[argparse.ArgumentParser], object] = lambda parser: None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; usage errors, --help and --version leave by SystemExit."""
    fill_standard()  # before anything is opened that stays
    # Most of a command is imports, which make much that stays and no garbage. `server.serve` goes back to collecting.
    gc.disable()
    given = list(sys.argv[1:] if argv is None else argv)
    script, static, words_given = _script(given)
    name, options, words = split(words_given)
    prog = "gworker" if script is None else f"python {_shown(script)}"
    parser = _overview(prog, needs_command=script is not None) if name is None else _parser(name, prog)
    if name is None:
        parser.parse_args(options)  # leaves for --help, --version and what is wrong
        if script is not None and not {"--check", "--print-config"} & set(options):
            return _show_usage(parser)
        name = "start"
    if name == "start" and words_given[:1] == words[:1] != []:
        _look_for_a_command(words, parser, script is not None, "--chdir" in options)
    if script is not None:
        options.append("--script")
        words = [script, *words] if COMMANDS[name].target else words
    # All words behind the options: argparse matches positionals that stand apart one group at a time, and its
    # parse_intermixed_args forgets a "--".
    arguments = _parser(name, prog).parse_args([*options, "--", *words] if words else options)
    arguments.static = static
    try:
        return _guarded(COMMANDS[name], arguments)
    except NoTarget as error:
        if given:
            parser.error(str(error))
        return _show_usage(parser)


def _show_usage(parser: argparse.ArgumentParser) -> int:
    """What there is, without the options, which would push it off the screen."""
    print(f"{parser.format_usage()}\n{parser.description}", file=sys.stderr)
    print(f"\n`{parser.prog} --help` shows the options, too.", file=sys.stderr)
    return 2


def _look_for_a_command(words: list[str], parser: argparse.ArgumentParser, script: bool, elsewhere: bool) -> None:
    """The first word is no command. One with a typing error is taken for the target, and no such module is found.

    script: the target is known, so that the word can be nothing else. elsewhere: modules are looked for in another
    directory than this one.
    """
    word = words[0]
    if script:
        parser.error(f"there is no command {word!r}{near(word, COMMANDS)}")
    meant = near(word, COMMANDS, 0.7) if word.isidentifier() and not elsewhere else ""
    if not meant or any(map(os.path.exists, (word, word + ".py"))) or find_spec(word) is not None:
        return
    if len(words) > 1:
        parser.error(f"there is no command {word!r}{meant}")
    print(f"gworker: note: there is no command {word!r}{meant}", file=sys.stderr)


def _guarded(command: Command, arguments: argparse.Namespace) -> int:
    try:
        return command.run(arguments)
    except NoTarget:
        raise
    except NotRunning as error:
        return _complain(str(error), NOT_RUNNING)
    except GworkerError as error:
        return _complain(f"error: {error}", 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output left, as in `gworker status | head`. The flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _complain(message: str, code: int) -> int:
    print(f"gworker: {message}", file=sys.stderr)
    return code


def _script(argv: list[str]) -> tuple[str | None, config.Layer | None, list[str]]:
    """The file that `Worker.run_all()` says it is in, its settings, and its arguments."""
    if len(argv) > 2 and argv[0] == "--script":
        return argv[1], config.Layer(argv[1], static_settings.from_argument(argv[2])), argv[3:]
    return None, None, argv


def _shown(script: str) -> str:
    """A script as one types it: from the current directory on, if it is below that."""
    with suppress(FileNotFoundError):
        return script.removeprefix(os.path.join(directory.current(), ""))
    return script


def split(argv: Sequence[str]) -> tuple[str | None, list[str], list[str]]:
    """The command, the options with their values, the other words; no command without any word."""
    options: list[str] = []
    words: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        if argument == "--":
            break
        if not argument.startswith("-") or argument == "-":
            words.append(argument)
        else:
            options.append(argument)
            options += itertools.islice(arguments, 1) if _wants_value(argument) else ()
    command = words.pop(0) if words and words[0] in COMMANDS else None
    words += arguments
    return command or ("start" if words else None), options, words


def _wants_value(argument: str) -> bool:
    """Whether the next word is this option's value, as after -w, --workers and the bundle -dw."""
    takes_value = {flag for option in OPTIONS if option.parse for flag in option.flags} | {
        "--worker",
        "--limit",
    }
    if argument.startswith("--"):
        return argument in takes_value
    first = next((i for i, letter in enumerate(argument) if f"-{letter}" in takes_value), None)
    return first == len(argument) - 1


class _Parser(argparse.ArgumentParser):
    """Complains in two lines: the usage of `start` would fill the screen."""

    def error(self, message: str) -> NoReturn:
        _, _, words = message.partition("unrecognized arguments: ")
        if words.startswith("--"):  # what stands behind it may be its value, or the target
            known = (flag for flag in self._option_string_actions if len(flag) > 2 and flag != "--script")
            option = words.split()[0]
            message = f"unrecognized arguments: {option}{near(option.partition('=')[0], known)}"
        self.exit(2, f"{self.prog}: error: {message}\n`{self.prog} --help` shows what there is\n")


def _parser(name: str, prog: str = "gworker") -> argparse.ArgumentParser:
    command = COMMANDS[name]
    about = "module[:attr] or path/to/file.py[:attr]" if prog == "gworker" else argparse.SUPPRESS  # a script is its own
    prog = prog if name == "start" else f"{prog} {name}"
    parser = _Parser(prog=prog, description=command.help, allow_abbrev=False)
    if command.target:
        parser.add_argument("target", metavar="TARGET", nargs="?", help=about)
    command.arguments(parser)
    config.add_options(parser, command.options)
    parser.add_argument("--script", action="store_true", help=argparse.SUPPRESS)
    _add_version(parser)
    return parser


def _overview(prog: str, needs_command: bool) -> argparse.ArgumentParser:
    """The parser behind `gworker --help`: all commands, and the options of start."""
    usage = f"{prog} [start] TARGET [options]\n       {prog} COMMAND [TARGET] [options]"
    title = "commands (the TARGET is this script):" if needs_command else "commands:"
    parser = _Parser(
        prog=prog,
        usage=f"{prog} COMMAND [options]" if needs_command else usage,
        description=f"{title}\n" + "\n".join(f"  {name:<12} {each.help}" for name, each in COMMANDS.items()),
        epilog=f"{prog} COMMAND --help shows the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    config.add_options(parser)
    _start_arguments(parser)
    _add_version(parser)
    return parser


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-V", "--version", action="version", version=f"gworker {__version__}")


def _settings(arguments: argparse.Namespace, needs_target: bool = True) -> Settings:
    given = sources.sources(
        arguments.target, config.command_line(arguments), arguments.script, vars(arguments).get("static")
    )
    settings = given.read()
    if needs_target and settings.target is None:
        raise NoTarget
    return settings


def _selection(arguments: argparse.Namespace) -> Selection:
    """The instance that is meant: what the command line says, else what `gworker` with this file would be called."""
    target: str | None = vars(arguments).get("target")
    given = config.command_line(arguments).values
    values, notes = sources.identity(config.command_line(arguments))
    for note in notes:
        print(f"gworker: note: {note}", file=sys.stderr)
    named: Any = values["runtime_dir"].value
    directories = (named,) if named is not None else config.default_runtime_dirs()
    name: Any = values["name"].value or values["target"].value
    pid: Any = values["pid"].value
    if "pid" in given or not (name or target):
        return Selection(directories, name or target, pid)
    if target is None or "name" in given:
        return Selection(directories, name)
    # An instance of this target is called so, unless a lower layer gives it a name.
    alias: Any = values["name"].value if values["target"].value in (None, target) else None
    return Selection(directories, target, alias=alias)


def _start_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="load the target, show what would run, start nothing")
    parser.add_argument("--print-config", action="store_true", help="show the effective settings, start nothing")


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
    from gworker.upgrade import patiently

    return commands.start(patiently(lambda: _settings(arguments)))


def _run_check(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments, needs_target=False)
    return commands.check(settings, arguments.json)


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--settings", action="store_true", help="the settings in force, and where each comes from")
    parser.add_argument("--json", action="store_true", help="for programs: raw figures")
    parser.add_argument("-d", "--watch", action="store_true", help="again every second until Ctrl-C")


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
        return commands.settings(_selection(arguments).find(), arguments.json)

    def show() -> int:
        return commands.status(_selection(arguments).find(), arguments.json)

    return commands.watch(show) if arguments.watch else show()


def _run_connections(arguments: argparse.Namespace) -> int:
    instance = _selection(arguments).find()
    return commands.connections(instance, arguments.json, arguments.worker, arguments.limit)


# fmt: off
COMMANDS: Final[dict[str, Command]] = {
    "start": Command(
        "start serving TARGET",
        _run_start, OPTIONS, arguments=_start_arguments,
    ),
    "stop": Command(
        "stop an instance and wait for its end",
        lambda given: commands.stop(_selection(given).find(), given.quick),
        arguments=_stop_arguments,
    ),
    "restart": Command(
        "stop TARGET if it runs, then start it with the options given",
        lambda given: commands.restart(_settings(given), _selection(given)), OPTIONS,
        arguments=lambda parser: parser.add_argument("-g", action="store_true", help=GRACEFUL),
    ),
    "reload": Command(
        "replace all worker processes by freshly loaded ones; no client is refused",
        lambda given: commands.reload(_selection(given).find(), not given.no_wait),
        arguments=_reload_arguments,
    ),
    "status": Command("show the processes of an instance", _run_status, arguments=_status_arguments),
    "connections": Command("show its connections", _run_connections, arguments=_connections_arguments),
    "health": Command(
        "exit 0 if every Worker has a process that serves, else 1 with the reason",
        lambda given: commands.health(_selection(given).find(), given.worker),
        arguments=lambda parser: parser.add_argument("--worker", metavar="NAME", help="ask of this Worker only"),
    ),
    "scale": Command(
        "change how many processes a Worker has: scale NAME N",
        lambda given: commands.scale(_selection(given).find(), given.worker, given.count),
        arguments=_scale_arguments,
    ),
    "upgrade": Command(
        "replace the arbiter's own code in place, with the same pid, then reload",
        lambda given: commands.upgrade(_selection(given).find()),
    ),
    "list": Command(
        "show the running instances",
        lambda given: commands.instances(_selection(given).runtime_dirs),
        tuple(option for option in IDENTITY if option.name in ("runtime-dir", "config")), False,
    ),
    "check": Command(
        "load TARGET, show its listeners and the effective settings; without one: is this machine fit?",
        _run_check, OPTIONS, arguments=_check_arguments,
    ),
}
# fmt: on
