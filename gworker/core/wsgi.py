"""WSGI's part of the core in plain Python: a request as an environ (PEP 3333), and the header of an
answer that an application has given as a list."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from gworker.core.fields import check_field

if TYPE_CHECKING:
    from gworker.core.request import RequestCore

MAX_NAMES: Final = 1024  # of fields whose keys are remembered

DROPPED: Final = ""
"""In place of a key: a field of this name does not become a part of an environ."""

_keys: dict[str, str] = {}


def key_of(name: str) -> str:
    """The key of an environ for a header field; DROPPED for one that has none.

    `X_A` and `X-A` would have the same key, so that a client could forge a field that a proxy sets:
    names with an underscore have none. HTTP_PROXY is a variable to which programs listen that the
    application starts (CVE-2016-5385).
    """
    key = _keys.get(name)
    if key is None:
        key = name.upper().replace("-", "_")
        if "_" in name or key == "PROXY":
            key = DROPPED
        elif key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        if len(_keys) < MAX_NAMES:
            _keys[name] = key
    return key


def make_environ(template: dict[str, Any], request: RequestCore, root: str) -> dict[str, Any]:
    """`template` and what `request` says: its line and its fields.

    root: the path where the application is mounted; what follows it is PATH_INFO. Values are str of
    latin-1 code points (PEP 3333, "A Note on String Types").
    """
    environ = template.copy()
    lines = request._head.decode("latin-1").split("\r\n")
    method, target, version = lines[0].split(" ")
    environ["REQUEST_METHOD"] = method
    environ["RAW_URI"] = environ["REQUEST_URI"] = target
    environ["SERVER_PROTOCOL"] = version
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        key = key_of(name)
        if key is not DROPPED:
            value = value.strip(" \t")
            if key in environ:
                value = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{value}"
            environ[key] = value
    path, _, query = target.partition("?")
    if path[:1] != "/":
        path = _in_absolute_form(environ, path)
    if "%" in path:
        path = unquote_to_bytes(path).decode("latin-1")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        path = path[len(root) :]
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = query
    return environ


def _in_absolute_form(environ: dict[str, Any], path: str) -> str:
    # The path of a target that does not begin with it. The authority of a URL replaces Host
    # (RFC 9112 section 3.2.2). OPTIONS * asks for no path.
    _, separator, rest = path.partition("://")
    if not separator:
        return ""
    host, slash, path = rest.partition("/")
    environ["HTTP_HOST"] = host
    return slash + path or "/"


# ---- answers

_STATUS = re.compile(r"[1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?")


class PreparedAnswer:
    """The beginning of an answer: a status with its reason, and fields that were checked.

    body: bytes, or what is sent in pieces.
    """

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: str, fields: list[tuple[str, str]], body: Any = b"") -> None:
        self.body = body
        self.prepare(status, fields)

    def prepare(self, status: str, fields: list[tuple[str, str]]) -> None:
        """Set both. Raises TypeError or ValueError for what cannot be sent (RFC 9110 section 5.5,
        RFC 9112 section 4)."""
        check_status(status)
        copy: list[tuple[str, str]] = []
        for name, value in fields:
            check_field(name, value)
            copy.append((name, value))
        self.status, self.fields = status, copy


def check_status(status: object) -> None:
    if not isinstance(status, str):
        raise TypeError(f"a status is a str, not {type(status).__name__}")
    if not _STATUS.fullmatch(status):
        raise ValueError(f"a status is three digits and a reason, not {status!r}")
