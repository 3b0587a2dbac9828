"""Write the shell completions from gworker's own table of commands and options.

    python contrib/completions/make.py           write gworker.bash, _gworker and gworker.fish
                                                 beside this file
    python contrib/completions/make.py --check   exit 1 if one of them is not what would be written

A test runs the check, so an option that is added without this script being run is noticed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gworker.cli.command_table import COMMANDS
from gworker.cli.main import parser_of
from gworker.config.parsers import LOG_LEVELS

HERE = Path(__file__).parent
NOTE = "# Written by contrib/completions/make.py; do not edit."


@dataclass(frozen=True)
class Flag:
    """One option of one command. `value`: the metavar of its value, "" for a switch."""

    names: tuple[str, ...]
    value: str
    help: str
    repeat: bool


def flags(command: str) -> list[Flag]:
    """The options of a command, as argparse has them."""
    return [
        Flag(
            tuple(action.option_strings),
            "" if action.nargs == 0 else str(action.metavar),
            " ".join(str(action.help or "").split()),
            isinstance(action, argparse._AppendAction),
        )
        for action in parser_of(command)._actions
        if action.option_strings and action.help != argparse.SUPPRESS
    ]


def _all() -> Iterator[tuple[str, Flag]]:
    for command in COMMANDS:
        for flag in flags(command):
            yield command, flag


def _with_value(*metavars: str) -> list[str]:
    """The names of all options whose value is one of these."""
    names = {name for _, flag in _all() if flag.value in metavars for name in flag.names}
    return sorted(names)


def bash() -> str:
    """gworker.bash"""
    every = sorted({name for _, flag in _all() if flag.value for name in flag.names})
    other = set(every) - set(_with_value("FILE", "DIR", "GLOB", "USER", "GROUP", "LEVEL"))
    cases = "\n".join(
        f"        {command}) "
        f"words='{' '.join(name for flag in flags(command) for name in flag.names)}' ;;"
        for command in COMMANDS
    )
    return f"""{NOTE}
# Source it, or put it into /usr/share/bash-completion/completions/gworker.

_gworker() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command=start word words
    COMPREPLY=()
    case $previous in
        {"|".join(_with_value("FILE", "GLOB"))}) COMPREPLY=($(compgen -f -- "$current")); return ;;
        {"|".join(_with_value("DIR"))}) COMPREPLY=($(compgen -d -- "$current")); return ;;
        {"|".join(_with_value("USER"))}) COMPREPLY=($(compgen -u -- "$current")); return ;;
        {"|".join(_with_value("GROUP"))}) COMPREPLY=($(compgen -g -- "$current")); return ;;
        {"|".join(_with_value("LEVEL"))}) COMPREPLY=($(compgen -W '{" ".join(LOG_LEVELS)}' -- "$current")); return ;;
        {"|".join(sorted(other))}) return ;;
    esac
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in
            {"|".join(COMMANDS)}) command=$word; break ;;
        esac
    done
    if [[ $current != -* ]]; then
        words=''
        if ((COMP_CWORD == 1)); then words='{" ".join(COMMANDS)}'; fi
        COMPREPLY=($(compgen -W "$words" -- "$current") $(compgen -f -X '!*.py' -- "$current"))
        COMPREPLY+=($(compgen -d -- "$current"))
        return
    fi
    case $command in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o filenames -F _gworker gworker
"""


ZSH_ACTIONS = {
    "FILE": "_files",
    "GLOB": "_files",
    "DIR": "_files -/",
    "USER": "_users",
    "GROUP": "_groups",
    "LEVEL": f"({' '.join(LOG_LEVELS)})",
}


def zsh() -> str:
    """_gworker"""
    commands = "\n".join(
        f"        {_quoted(f'{name}:{command.help}')}" for name, command in COMMANDS.items()
    )
    cases = "\n".join(_zsh_case(command) for command in COMMANDS)
    return f"""#compdef gworker
{NOTE}
# Put it into a directory of $fpath.

_gworker() {{
    local -a commands options
    local command=start word
    commands=(
{commands}
    )
    for word in ${{words[2,CURRENT-1]}}; do
        if (( ${{commands[(I)${{word}}:*]}} )); then command=$word; break; fi
    done
    case $command in
{cases}
    esac
    if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then
        _describe -t commands command commands
    fi
    _arguments -s $options '*:target:_files -g "*.py(-.)"'
}}

_gworker "$@"
"""


def _zsh_case(command: str) -> str:
    rows = "\n".join(
        f"            {_quoted(row)}" for flag in flags(command) for row in _zsh_rows(flag)
    )
    return f"        {command}) options=(\n{rows}\n        ) ;;"


def _zsh_rows(flag: Flag) -> Iterator[str]:
    text = flag.help.replace("[", "(").replace("]", ")").replace(":", r"\:")
    value = f":{flag.value}:{ZSH_ACTIONS.get(flag.value, ' ')}" if flag.value else ""
    others = "*" if flag.repeat else f"({' '.join(flag.names)})"
    for name in flag.names:
        yield f"{others}{name}[{text}]{value}"


FISH_VALUES = {
    "FILE": "-r -F",
    "GLOB": "-r -F",
    "DIR": "-x -a '(__fish_complete_directories)'",
    "USER": "-x -a '(__fish_complete_users)'",
    "GROUP": "-x -a '(__fish_complete_groups)'",
    "LEVEL": f"-x -a '{' '.join(LOG_LEVELS)}'",
    "": "",
}


def fish() -> str:
    """gworker.fish"""
    named = [command for command in COMMANDS if command != "start"]
    lines = [NOTE, "# Put it into ~/.config/fish/completions.", ""]
    lines += [
        f"complete -c gworker -n __fish_use_subcommand -a {name} -d {_quoted(command.help)}"
        for name, command in COMMANDS.items()
    ]
    for command in COMMANDS:
        where = f"__fish_seen_subcommand_from {command}"
        if command == "start":  # the default
            where = f"not __fish_seen_subcommand_from {' '.join(named)}"
        for flag in flags(command):
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in flag.names
            )
            value = FISH_VALUES.get(flag.value, "-x")
            lines.append(
                " ".join(
                    f"complete -c gworker -n {_quoted(where)} {names} {value} -d "
                    f"{_quoted(flag.help)}".split()
                )
            )
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


FILES: dict[str, Callable[[], str]] = {"gworker.bash": bash, "_gworker": zsh, "gworker.fish": fish}


def main(arguments: list[str]) -> int:
    """Write the files, or with --check compare them."""
    stale = [name for name, make in FILES.items() if not _is_current(HERE / name, make())]
    if arguments == ["--check"]:
        print(
            "\n".join(f"{name} is not current: run {__file__}" for name in stale),
            end="\n" if stale else "",
        )
        return 1 if stale else 0
    for name in stale:
        (HERE / name).write_text(FILES[name]())
    return 0


def _is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
