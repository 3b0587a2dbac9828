"""Print the completions of a shell, which shtab makes from gworker's own parsers.

pip install shtab
python contrib/completions.py bash|zsh|fish|tcsh
"""

from __future__ import annotations

import argparse
import sys

import shtab

from gworker.cli.command_table import COMMANDS
from gworker.cli.main import parser_of
from gworker.config.options import add_options
from gworker.config.parsers import LOG_FORMATS, LOG_LEVELS

WORDS = {"LEVEL": LOG_LEVELS, "FORMAT": LOG_FORMATS}
PATHS = {"TARGET": shtab.FILE, "FILE": shtab.FILE, "GLOB": shtab.FILE, "DIR": shtab.DIRECTORY}

# shtab knows no default command: the first word may also be the TARGET of `start`.
FIRST_WORD_IS_A_FILE = {
    "bash": "complete -o bashdefault -o default -F _shtab_gworker gworker",
    "fish": "complete -c gworker -n __fish_use_subcommand -F",
}


def parser() -> argparse.ArgumentParser:
    """The whole command line: the options of `start`, and all commands."""
    whole = argparse.ArgumentParser(prog="gworker")
    add_options(whole)
    COMMANDS["start"].add_arguments(whole)
    commands = whole.add_subparsers()
    for name, command in COMMANDS.items():
        made = parser_of(name)
        complete_values(made)
        commands.add_parser(name, parents=[made], add_help=False, help=command.help)
    complete_values(whole)
    return whole


def complete_values(made: argparse.ArgumentParser) -> None:
    for action in made._actions:
        if action.metavar in WORDS:
            action.choices = WORDS[action.metavar]
        elif action.metavar in PATHS:
            action.complete = PATHS[action.metavar]


if __name__ == "__main__":
    (shell,) = sys.argv[1:]
    print(shtab.complete(parser(), shell))
    print(FIRST_WORD_IS_A_FILE.get(shell, ""))
