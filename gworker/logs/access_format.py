"""Lines of the access log in a format of one's own (`--access-log-format`).

A format becomes a list of functions when the process starts. What a client has sent is escaped as
the line needs it, so that it can end neither a field nor the line.
"""

from __future__ import annotations

import binascii
import json
import os
from base64 import b64decode
from collections.abc import Callable, Mapping
from functools import partial
from time import time
from typing import Any, Final

from gworker.config.access_format import NUMBERS, AccessFormat, Atom
from gworker.config.settings import Settings
from gworker.logs.access_log import (
    MAX_FIELD,
    MAX_LINE,
    Entry,
    field_of,
    request_line,
    safe,
    stamp,
)

# What stands for what is not there.
NOTHING: Final = "-"

Get = Callable[["Line"], object]


class Line:
    """What the atoms of one line are taken from."""

    __slots__ = ("entry", "lower", "parts", "request", "worker")

    def __init__(self, worker: str, entry: Entry) -> None:
        self.worker = worker
        self.entry = entry
        self.lower = entry.head.lower()
        self.request = request_line(entry.head)
        self.parts = self.request.split(" ")

    @property
    def is_request(self) -> bool:
        """True if the request line has three parts, as it should."""
        return len(self.parts) == 3

    @property
    def target(self) -> tuple[str, str]:
        """Path and query."""
        path, _, query = self.parts[1].partition("?") if self.is_request else ("", "", "")
        return path, query

    def field(self, name: str) -> str:
        return field_of(self.entry.head, self.lower, f"\r\n{name}:".lower().encode("latin-1"))

    @property
    def user(self) -> str:
        scheme, _, value = self.field("authorization").partition(" ")
        if scheme.lower() != "basic":
            return ""
        try:
            return b64decode(value.strip()).decode("utf-8", "replace").partition(":")[0]
        except (ValueError, binascii.Error):
            return ""

    def variable(self, name: str) -> str:
        """A variable of the request, as CGI has them, else of the process."""
        of_request = {
            "REQUEST_METHOD": self.parts[0] if self.is_request else "",
            "REQUEST_URI": self.parts[1] if self.is_request else "",
            "RAW_URI": self.parts[1] if self.is_request else "",
            "PATH_INFO": self.target[0],
            "QUERY_STRING": self.target[1],
            "SERVER_PROTOCOL": self.parts[2] if self.is_request else "",
            "REMOTE_ADDR": self.entry.ip,
        }
        if name in of_request:
            return of_request[name]
        if name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            return self.field(name.replace("_", "-"))
        if name.startswith("HTTP_"):
            return self.field(name[5:].replace("_", "-"))
        return os.environ.get(name, "")


# What an atom is: a number, or a text, which is "" for what is not there.
GETTERS: Final[dict[str, Get]] = {
    "h": lambda line: line.entry.ip or "unix",
    "l": lambda line: "",
    "u": lambda line: line.user,
    "t": lambda line: f"[{stamp(int(time()))}]",
    "r": lambda line: line.request,
    "s": lambda line: line.entry.status or None,
    "m": lambda line: line.parts[0] if line.is_request else "",
    "U": lambda line: line.target[0],
    "q": lambda line: line.target[1],
    "H": lambda line: line.parts[2] if line.is_request else "",
    "B": lambda line: line.entry.sent,
    "b": lambda line: line.entry.sent,
    "f": lambda line: line.field("referer"),
    "a": lambda line: line.field("user-agent"),
    "T": lambda line: int(line.entry.seconds),
    "D": lambda line: int(line.entry.seconds * 1_000_000),
    "M": lambda line: int(line.entry.seconds * 1000),
    "L": lambda line: f"{line.entry.seconds:.6f}",
    "p": lambda line: f"<{os.getpid()}>",
    "w": lambda line: line.worker,
    "P": lambda line: line.entry.protocol,
    "I": lambda line: line.entry.received,
    "c": lambda line: line.entry.close_code or None,
    "C": lambda line: line.entry.close_reason,
}


class CustomFormat:
    """What makes a line of an entry by a format.

    wants_answer: it shows fields of answers. of_connections: also of what has no request.
    """

    def __init__(self, found: AccessFormat, of_connections: bool) -> None:
        self.of_connections = of_connections
        self.wants_answer = any(isinstance(each, Atom) and each.kind == "o" for each in found.parts)
        self._template = "".join(
            each.replace("%", "%%") if isinstance(each, str) else "%s" for each in found.parts
        )
        self._gets = [
            _getter(each, found.is_json, position in found.bare)
            for position, each in enumerate(found.parts)
            if isinstance(each, Atom)
        ]

    def __call__(self, worker: str, entry: Entry) -> bytes:
        line = Line(worker, entry)
        text = self._template % tuple([get(line) for get in self._gets])
        return text.encode("utf-8", "backslashreplace") + b"\n"


def custom_format(name: str, options: Mapping[str, Any], settings: Settings) -> CustomFormat | None:
    """The format of the lines of the Worker `name`; None: that of --log-format.

    Its own, in `options` or in a file, is for all of its lines; that of the settings for those that
    have a request.
    """
    own = settings.of_workers.get(name, {}).get("access_log_format")
    if own is not None:
        return CustomFormat(own, of_connections=True)
    if settings.access_log_format is not None:
        return CustomFormat(settings.access_log_format, of_connections=False)
    declared = options.get("access_log_format")
    return None if declared is None else CustomFormat(declared, of_connections=True)


def _getter(atom: Atom, is_json: bool, is_bare: bool) -> Get:
    get = _named(atom) if atom.name else GETTERS[atom.kind]
    if is_bare:
        return partial(_bare, get)
    if atom.kind in NUMBERS:
        return partial(_number, get)
    most = MAX_LINE if atom.kind in "rUq" else MAX_FIELD
    return partial(_json if is_json else _text, get, most)


def _named(atom: Atom) -> Get:
    name = atom.name
    if atom.kind == "i":
        return lambda line: line.field(name)
    if atom.kind == "e":
        return lambda line: line.variable(name)
    key = f"\r\n{name}:".lower().encode("latin-1", "replace")
    return lambda line: field_of(line.entry.answer, line.entry.answer.lower(), key)


def _bare(get: Get, line: Line) -> object:
    value = get(line)
    return "null" if value is None else value


def _number(get: Get, line: Line) -> object:
    value = get(line)
    return NOTHING if value is None else value


def _text(get: Get, most: int, line: Line) -> str:
    return safe(str(get(line)), most) or NOTHING


def _json(get: Get, most: int, line: Line) -> str:
    text = str(get(line))
    return json.dumps(text[:most])[1:-1] or NOTHING
