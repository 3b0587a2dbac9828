"""Write the table of options in settings.md anew: `python docs/options.py`.

The source is the table in gworker/config/options.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from gworker.config.options import DEFAULT_LIMITS, OPTIONS, Option

PAGE = Path(__file__).parent / "settings.md"
BEGIN, END = "<!-- options: begin -->\n", "<!-- options: end -->\n"


def table() -> str:
    """The table, as Markdown."""
    head = "| option | in a file | in the environment | at a reload |\n|---|---|---|---|\n"
    return head + "".join(map(_row, OPTIONS))


def _row(option: Option) -> str:
    flags = ", ".join(option.flags) + (f" {option.metavar}" if option.metavar else "")
    key = f"`{option.name} = {_example(option)}`" if option.file else "no"
    effect = "read again" if not option.file else "**restart**" if option.restart else "yes"
    return f"| `{flags}` | {key} | `{option.variable}` | {effect} |\n"


def _example(option: Option) -> str:
    """What a value looks like in TOML."""
    if option.parse is None:
        return "true"
    if option.name == "env":
        return '{K = "V"}'
    if option.repeat:
        return f'["{option.metavar}"]'
    for text in (str(_number(option)), "30"):
        try:
            if not isinstance(option.value(text), str) and option.value(text) == float(text):
                return text
        except ValueError:
            continue
    return f'"{option.metavar}"'


def _number(option: Option) -> object:
    default = DEFAULT_LIMITS.get(option.key, option.default)
    return option.implied if default is None else default


def page_with_table(text: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text()))
