"""WSGI's part of the core in plain Python: a request as an environ (PEP 3333), an answer that an
application has begun, and the call of the application."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import unquote_to_bytes

from gworker.core.fields import check_field

if TYPE_CHECKING:
    from gworker.core.request import RequestCore

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

MAX_NAMES: Final = 1024  # of fields whose keys are remembered

_keys: dict[str, str] = {}


def key_of(name: str) -> str:
    """The key of an environ for a header field; "" for one that has none.

    `X_A` and `X-A` would have the same key, so that a client could forge a field that a proxy sets:
    names with an underscore have none. HTTP_PROXY is a variable to which programs listen that the
    application starts (CVE-2016-5385).
    """
    key = _keys.get(name)
    if key is None:
        key = name.upper().replace("-", "_")
        if "_" in name or key == "PROXY":
            key = ""
        elif key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        if len(_keys) < MAX_NAMES:
            _keys[name] = key
    return key


def joined_value(key: str, before: str, value: str) -> str:
    """The value of several lines of one field (RFC 9110 section 5.2; Cookie: RFC 9113 section
    8.2.3)."""
    return f"{before}{'; ' if key == 'HTTP_COOKIE' else ','}{value}"


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
        if key := key_of(name):
            value = value.strip(" \t")
            environ[key] = joined_value(key, environ[key], value) if key in environ else value
    environ["PATH_INFO"] = below(root, split_path(environ, target))
    return environ


def split_path(environ: dict[str, Any], target: str) -> str:
    """The decoded path of a target; sets QUERY_STRING.

    The authority of a URL replaces Host (RFC 9112 section 3.2.2). OPTIONS * asks for no path.
    """
    path, _, environ["QUERY_STRING"] = target.partition("?")
    if not path.startswith("/"):
        _, separator, rest = path.partition("://")
        if not separator:
            return ""
        environ["HTTP_HOST"], slash, path = rest.partition("/")
        path = slash + path or "/"
    return unquote_to_bytes(path).decode("latin-1") if "%" in path else path


def below(root: str, path: str) -> str:
    """What follows `root` in `path`; all of it if a proxy has removed the root."""
    return path[len(root) :] if path == root or path.startswith(f"{root}/") else path


# ---- answers

_STATUS = re.compile(r"[1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?")


def check_status(status: object) -> None:
    """Raise TypeError or ValueError unless it is three digits and a reason (RFC 9112 section 4)."""
    if not isinstance(status, str):
        raise TypeError(f"a status is a str, not {type(status).__name__}")
    if not _STATUS.fullmatch(status):
        raise ValueError(f"a status is three digits and a reason, not {status!r}")


class PreparedAnswer:
    """The beginning of an answer: a status with its reason, and fields that were checked.

    body: bytes; None for content that is sent in pieces.
    """

    __slots__ = ("body", "fields", "status")

    def __init__(
        self, status: str, fields: list[tuple[str, str]], body: bytes | None = b""
    ) -> None:
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

    def dropped(self, names: list[str]) -> None:
        """Called with the names of fields that are not sent because they are about the connection
        (RFC 9110 section 7.6.1)."""


def raise_again(exc_info: ExcInfo) -> NoReturn:
    """Raise what `sys.exc_info()` has given, with its traceback."""
    try:
        raise exc_info[1].with_traceback(exc_info[2])
    finally:
        del exc_info  # it refers to this frame


# ---- a call


class ExchangeCore(PreparedAnswer):
    """The base of `gworker.wsgi.exchange.Exchange`, which has the method `write`.

    status: "" until start_response is called. is_begun: the head is sent. had_eof: the client had
    finished sending before the application was called. left: bytes of the content that may still
    be sent; None: any number. sleeper: the greenlet that is interrupted when the client leaves.
    unshared: bytes that were sent since other connections had their turn.
    """

    __slots__ = ("connection", "had_eof", "is_begun", "left", "sleeper", "unshared")

    def __init__(self, connection: Any) -> None:
        self.status = ""
        self.fields = []
        self.body = b""
        self.connection = connection
        self.is_begun = False
        self.had_eof: bool = connection.io.eof_received
        self.left: int | None = None
        self.sleeper: Any = None
        self.unshared = 0

    write: Any

    def __call__(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Any:
        """PEP 3333, "The start_response() Callable". Raises AssertionError for a second call
        without exc_info; what exc_info holds, if the head is sent; TypeError or ValueError for what
        cannot be sent."""
        if exc_info is not None:
            if self.is_begun:
                raise_again(exc_info)
        elif self.status:
            raise AssertionError("start_response() was called before, without exc_info")
        self.prepare(status, headers)
        return self.write


class ApplicationCore:
    """The base of `gworker.wsgi.host.WsgiHost`, which serves what is not simple.

    The compiled core calls the application for a request without a body, and answers with what it
    returns if that is a list or tuple of one piece. is_plain: false if more than the template and
    the request decides about the environ. watches: fields of a proxy on this machine are looked
    for.
    """

    serve: Callable[[Any, Any], Any]
    """`serve(connection, request)` of the class that derives answers it, or what is no request."""

    def __init__(
        self,
        application: Any,
        template: dict[str, Any],
        root: str,
        _exchange: type[ExchangeCore],
        _request: type[RequestCore],
    ) -> None:
        self.application, self.template, self.root = application, template, root
        self.is_plain = self.watches = True

    def __call__(self, connection: Any, request: Any) -> Any:
        return self.serve(connection, request)
