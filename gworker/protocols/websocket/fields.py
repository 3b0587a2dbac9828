"""Header fields of a WebSocket handshake that are lists."""

from __future__ import annotations

import re

from gworker.http.grammar import TOKEN

Parameters = dict[str, str | None]
"""Of an extension: None for one without a value."""

_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({TOKEN})(?:[ \t]*=[ \t]*(?:({TOKEN})|"({TOKEN})"))?')
_EXTENSION = re.compile(rf"[ \t]*({TOKEN})")
_BETWEEN = re.compile(r"[ \t]*(?:,|\Z)")
_EMPTY = re.compile(r"[ \t]*,")


def check_token(name: str) -> str:
    """Return `name`. ValueError unless it is a token, as a subprotocol has to be (RFC 9110 section
    5.6.2)."""
    if not isinstance(name, str) or not re.fullmatch(TOKEN, name):
        raise ValueError(f"a subprotocol is a token, not {name!r}")
    return name


def parse_extensions(field: str) -> list[tuple[str, Parameters | None]]:
    """Return (name, parameters) of each. Parameters are None if one is there twice. ValueError if
    it is no list."""
    found: list[tuple[str, Parameters | None]] = []
    pos = 0
    while pos < len(field):
        if empty := _EMPTY.match(field, pos):  # RFC 9110 section 5.6.1
            pos = empty.end()
            continue
        name = _EXTENSION.match(field, pos)
        if name is None:
            if not field[pos:].strip(" \t"):
                break
            raise ValueError(f"Sec-WebSocket-Extensions is malformed at {field[pos : pos + 40]!r}")
        parameters: Parameters | None = {}
        pos = name.end()
        while match := _PARAMETER.match(field, pos):
            pos = match.end()
            if parameters is not None:
                key = match[1]
                if key in parameters:
                    parameters = None
                else:
                    parameters[key] = match[2] or match[3]
        end = _BETWEEN.match(field, pos)
        if end is None:
            raise ValueError(f"Sec-WebSocket-Extensions is malformed at {field[pos : pos + 40]!r}")
        pos = end.end()
        found.append((name[1], parameters))
    return found
