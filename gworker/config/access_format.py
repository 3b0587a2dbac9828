"""The format of access log lines, as gunicorn has it: text with atoms `%(h)s`.

A format is read once: what is wrong in it is an error at the start, with its place. One that is a
JSON value with atoms in it makes lines of JSON: what stands in for an atom is escaped as JSON has
it, and one outside of quotes is a number.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

COMBINED: Final = "combined"

# By their letter, as gunicorn's; the last ones are ours.
ATOMS: Final = {
    "h": "the client's address",
    "l": "-",
    "u": "the user of Basic authentication",
    "t": "date and time, in brackets",
    "r": "the request line",
    "s": "the status",
    "m": "the method",
    "U": "the path, as sent",
    "q": "the query string",
    "H": "the protocol of the request",
    "B": "bytes sent, of the answer's body",
    "b": "the same",
    "f": "Referer",
    "a": "User-Agent",
    "T": "seconds, whole",
    "D": "microseconds",
    "M": "milliseconds, whole",
    "L": "seconds, with six decimals",
    "p": "the process id, in brackets",
    "w": "the worker process, as web#0",
    "P": "the protocol of the connection",
    "I": "bytes received, of a whole connection",
    "c": "the close code of a WebSocket",
    "C": "the close reason of a WebSocket",
}

# {NAME}i: a field of the request, {NAME}o: of the answer, {NAME}e: a variable.
NAMED: Final = "ioe"

NUMBERS: Final = frozenset("sBbTDMLIc")

_ATOM: Final = re.compile(r"%(?:%|\((?:\{([^{}()]*)\}([a-z])|([^{}()]*))\)(.?))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Atom:
    """What stands in for something of a line. kind: a letter of ATOMS or NAMED. name: of a field or
    a variable."""

    kind: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class AccessFormat:
    """A format that was read: text and atoms, by turns. is_json: its lines are JSON. bare: of each
    atom, whether it stands outside of quotes there."""

    text: str
    parts: tuple[str | Atom, ...]
    is_json: bool = False
    bare: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return self.text


def access_format(text: str) -> AccessFormat | None:
    """The format that `text` is; None for `combined`. Raises ValueError saying what is wrong, and
    where."""
    if text == COMBINED:
        return None
    if not text or "\n" in text or "\r" in text:
        raise ValueError("combined, or a line of text with atoms as %(h)s")
    parts = tuple(_parts(text))
    is_json = text.startswith("{") and _is_json(parts)
    return AccessFormat(text, parts, is_json, frozenset(_bare(parts)) if is_json else frozenset())


def _parts(text: str) -> list[str | Atom]:
    found: list[str | Atom] = [""]
    at = 0
    while (start := text.find("%", at)) >= 0:
        _add(found, text[at:start])
        match = _ATOM.match(text, start)
        where = f"at character {start + 1}, {text[start : start + 12]!r}"
        if match is None:
            raise ValueError(f"an atom as %(h)s, or %% for a percent sign, {where}")
        at = match.end()
        name, kind, letter, conversion = match.groups()
        if match[0] == "%%":
            _add(found, "%")
            continue
        if conversion != "s" and not (conversion == "d" and letter in NUMBERS):
            raise ValueError(f"an s behind the atom, as in %(h)s, {where}")
        if letter is not None and letter not in ATOMS:
            known = ", ".join([*ATOMS, *(f"{{NAME}}{each}" for each in NAMED)])
            raise ValueError(f"another atom {where}: there are {known}")
        if letter is None and (kind not in NAMED or not name.strip()):
            raise ValueError(f"{{NAME}}i, {{NAME}}o or {{NAME}}e {where}")
        found += [Atom(letter) if letter is not None else Atom(kind, name.strip()), ""]
    _add(found, text[at:])
    return found


def _add(found: list[str | Atom], text: str) -> None:
    last = found[-1]
    assert isinstance(last, str)  # text and atoms by turns, text first
    found[-1] = last + text


def _is_json(parts: tuple[str | Atom, ...]) -> bool:
    try:
        json.loads("".join(each if isinstance(each, str) else "0" for each in parts))
    except ValueError:
        return False
    return True


def _bare(parts: tuple[str | Atom, ...]) -> list[int]:
    # The positions of atoms outside of quotes. Raises ValueError for one that is no number.
    bare, is_quoted = [], False
    for position, part in enumerate(parts):
        if isinstance(part, str):
            is_quoted ^= re.sub(r"\\.", "", part).count('"') % 2 == 1
        elif not is_quoted:
            if part.kind not in NUMBERS:
                shown = f"{{{part.name}}}{part.kind}" if part.name else part.kind
                raise ValueError(f'quotes around %({shown})s, which is no number: "%({shown})s"')
            bare.append(position)
    return bare
