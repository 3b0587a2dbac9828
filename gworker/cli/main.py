"""The command line: which command, with which arguments, and the exit code.

    gworker [start] TARGET [options]          gworker COMMAND [TARGET] [options]
    gworker --script FILE SETTINGS COMMAND [options]
        what `python FILE …` becomes: FILE is the TARGET, and SETTINGS what it says itself
        (static_settings.py)

The first word that is not an option (nor an option's value) is the command if it is one, else the
TARGET of `start`; so options may stand anywhere. A target called like a command is reached by
`gworker start NAME`. Without any word it is `start` as well, and the TARGET comes from the
environment or a file (sources.py); a script without a command shows its usage.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not running, 130 interrupted.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import NoReturn

from gworker.app import static_settings
from gworker.cli.command_table import COMMANDS, Command, NoTarget
from gworker.cli.instances import NotRunning
from gworker.config import settings
from gworker.config.options import OPTIONS, add_options
from gworker.config.parsers import near
from gworker.core import IMPLEMENTATION
from gworker.errors import GworkerError
from gworker.system import directory
from gworker.system.stdio import fill_standard
from gworker.version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; usage errors, --help and --version leave by
    SystemExit."""
    fill_standard()  # before anything is opened that stays
    # Most of a command is imports, which make much that stays and no garbage. `serve` collects
    # again.
    gc.disable()
    given = list(sys.argv[1:] if argv is None else argv)
    script, static, words_given = _script(given)
    name, options, words = split(words_given)
    prog = "gworker" if script is None else f"python {_shown(script)}"
    parser = (
        _overview(prog, needs_command=script is not None) if name is None else parser_of(name, prog)
    )
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
    # All words behind the options: argparse matches positionals that stand apart one group at a
    # time, and its parse_intermixed_args forgets a "--".
    arguments = parser_of(name, prog).parse_args([*options, "--", *words] if words else options)
    arguments.static = static
    try:
        return _run(COMMANDS[name], arguments)
    except NoTarget as error:
        if given:
            parser.error(str(error))
        return _show_usage(parser)


def _run(command: Command, arguments: argparse.Namespace) -> int:
    # Return the exit code, also for what a user can do wrong, but not for a target that is missing.
    try:
        return command.run(arguments)
    except NoTarget:
        raise
    except NotRunning as error:
        print(f"gworker: {error}", file=sys.stderr)
        return 3
    except GworkerError as error:
        print(f"gworker: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output left, as in `gworker status | head`. The flush at exit must not
        # fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _show_usage(parser: argparse.ArgumentParser) -> int:
    # Without the options, which would push it off the screen.
    print(f"{parser.format_usage()}\n{parser.description}", file=sys.stderr)
    print(f"\n`{parser.prog} --help` shows the options, too.", file=sys.stderr)
    return 2


def _look_for_a_command(
    words: list[str], parser: argparse.ArgumentParser, script: bool, elsewhere: bool
) -> None:
    """The first word is no command: leave, or print a note, if it may be a misspelt one.

    A misspelt command is taken for the target, and there is no such module. script: the target is
    known, so that the word can be nothing else. elsewhere: modules are looked for in another
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


def _script(argv: list[str]) -> tuple[str | None, settings.Layer | None, list[str]]:
    # The file that `Worker.run_all()` says it is in, its settings, and its arguments.
    if len(argv) > 2 and argv[0] == "--script":
        return argv[1], settings.Layer(argv[1], static_settings.from_argument(argv[2])), argv[3:]
    return None, None, argv


def _shown(script: str) -> str:
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
    # As after -w, --workers and the bundle -dw.
    takes_value = {flag for option in OPTIONS if option.parse for flag in option.flags} | {
        "--worker",
        "--limit",
    }
    if argument.startswith("--"):
        return argument in takes_value
    first = next((i for i, letter in enumerate(argument) if f"-{letter}" in takes_value), None)
    return first == len(argument) - 1


WORKER_CLASS = ("-k", "--worker-class")  # of gunicorn


class _Parser(argparse.ArgumentParser):
    # In two lines: the usage of `start` would fill the screen.
    def error(self, message: str) -> NoReturn:
        _, _, words = message.partition("unrecognized arguments: ")
        if words.partition(" ")[0].partition("=")[0] in WORKER_CLASS:
            message = (
                "there are no worker classes: leave -k and its value out. Handlers and WSGI "
                "applications run in greenlets, and those of gevent-websocket, Socket.IO and "
                "Flask-Sock are served as they are"
            )
        elif words.startswith("--"):  # what stands behind it may be its value, or the target
            known = (
                flag for flag in self._option_string_actions if len(flag) > 2 and flag != "--script"
            )
            option = words.split()[0]
            message = f"unrecognized arguments: {option}{near(option.partition('=')[0], known)}"
        self.exit(2, f"{self.prog}: error: {message}\n`{self.prog} --help` shows what there is\n")


def parser_of(name: str, prog: str = "gworker") -> argparse.ArgumentParser:
    """The parser of one command. prog: how the program is called."""
    command = COMMANDS[name]
    # A script is its own target.
    is_script = prog != "gworker"
    about = argparse.SUPPRESS if is_script else "module[:attr] or path/to/file.py[:attr]"
    prog = prog if name == "start" else f"{prog} {name}"
    parser = _Parser(prog=prog, description=command.help, allow_abbrev=False)
    if command.target:
        parser.add_argument("target", metavar="TARGET", nargs="?", help=about)
    command.add_arguments(parser)
    add_options(parser, command.options)
    parser.add_argument("--script", action="store_true", help=argparse.SUPPRESS)
    _add_version(parser)
    return parser


def _overview(prog: str, needs_command: bool) -> argparse.ArgumentParser:
    usage, title = f"{prog} COMMAND [options]", "commands (the TARGET is this script):"
    if not needs_command:
        usage = f"{prog} [start] TARGET [options]\n       {prog} COMMAND [TARGET] [options]"
        title = "commands:"
    listed = "\n".join(f"  {name:<12} {each.help}" for name, each in COMMANDS.items())
    parser = _Parser(
        prog=prog,
        usage=usage,
        description=f"{title}\n{listed}",
        epilog=f"{prog} COMMAND --help shows the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_options(parser)
    COMMANDS["start"].add_arguments(parser)
    _add_version(parser)
    return parser


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-V", "--version", action="version", version=f"gworker {__version__}, {IMPLEMENTATION} core"
    )
