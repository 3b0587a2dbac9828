"""An HTTP request as the handler sees it.

It keeps the bytes of its head, which have passed the strict checks of the protocol, and parses on
demand: a WebSocket holds the request of its handshake for as long as it lives, and most handlers
look at two or three things. What was parsed is cached until `forget`.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote

from gworker.http.cookies import parse_cookies
from gworker.http.forwarded import Client, client_of
from gworker.http.headers import Headers
from gworker.http.parameters import Parameters

_T = TypeVar("_T")

_FORM = "application/x-www-form-urlencoded"
_CHARSET = re.compile(r""";\s*charset\s*=\s*"?([^\s";]+)""", re.IGNORECASE)
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")

_REFUSED_CHARSETS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"})
"""Python's own, no charsets of the web; decoding the first two takes quadratic time."""


class Request:
    """One request. `body` is bytes; `keep_alive` tells whether the connection outlives the exchange.

    `head` is everything up to and including the empty line.
    """

    __slots__ = ("_cache", "_head", "_origin", "body", "keep_alive")

    def __init__(self, head: bytes, body: bytes = b"", keep_alive: bool = True, origin: Any = None) -> None:
        self._head = head
        self._origin = origin  # see forwarded.client_of
        self._cache: dict[str, Any] | None = None
        self.body = body
        self.keep_alive = keep_alive

    def __reduce__(self) -> Any:
        """What pickle(3) copies: the bytes, and nothing that was parsed from them."""
        return Request, (self._head, self.body, self.keep_alive, self._origin)

    def _cached(self, key: str, parse: Callable[[], _T]) -> _T:
        cache = self._cache
        if cache is None:
            cache = self._cache = {}
        if key not in cache:
            cache[key] = parse()
        value: _T = cache[key]
        return value

    def forget(self) -> None:
        """Drop everything that was parsed; it is parsed anew when asked for."""
        self._cache = None

    @property
    def _line(self) -> list[str]:
        return self._cached("line", lambda: self._head.partition(b"\r\n")[0].decode("latin-1").split(" "))

    @property
    def _parts(self) -> tuple[str, str]:
        """Path and query of the target, still encoded, also of the absolute form (RFC 9112 section 3.2.2)."""
        target = self._line[1]
        absolute = _ABSOLUTE.match(target)
        path, _, query = target[absolute.end() if absolute else 0 :].partition("?")
        return path or "/", query

    @property
    def method(self) -> str:
        """Upper-case, as sent."""
        return self._line[0]

    @property
    def target(self) -> str:
        """The request target as sent."""
        return self._line[1]

    @property
    def version(self) -> str:
        """ "1.1" or "1.0"."""
        return self._line[2][5:]

    @property
    def path(self) -> str:
        """The path, percent-decoded as UTF-8; bytes that are not UTF-8 become U+FFFD."""
        return unquote(self._parts[0])

    @property
    def query_string(self) -> str:
        """What follows the "?", as sent."""
        return self._parts[1]

    @property
    def query(self) -> Parameters:
        """The decoded query string."""
        return self._cached("query", lambda: Parameters.parse(self.query_string))

    @property
    def headers(self) -> Headers:
        """The header fields; values are latin-1."""
        return self._cached("headers", lambda: Headers.from_head(self._head))

    @property
    def _client(self) -> Client:
        return self._cached("client", lambda: client_of(self.headers, self._origin))

    @property
    def client_ip(self) -> str:
        """The client's IP address: the peer's, or what trusted proxies say (--forwarded-allow-ips).

        "" if they say that it is not known, and for the peer of a unix socket.
        """
        return self._client.ip

    @property
    def scheme(self) -> str:
        """ "http" or "https": how the client has asked, by what trusted proxies say."""
        return self._client.scheme

    @property
    def host(self) -> str:
        """The Host field, with its port if it has one; of the client's request, by what trusted proxies say."""
        return self._client.host

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies as sent: no percent-decoding."""
        return self._cached("cookies", lambda: parse_cookies("; ".join(self.headers.get_all("Cookie"))))

    @property
    def content_type(self) -> str:
        """Media type of the body in lower case, without parameters; "" if none was given."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def text(self) -> str:
        """The body as str, by the charset of Content-Type, else UTF-8. ValueError if it is something else."""
        given = _CHARSET.search(self.headers.get("Content-Type", ""))
        return _decode(self.body, given[1]) if given else self.body.decode()

    def json(self) -> Any:
        """The body parsed as JSON. ValueError if it is not."""
        return json.loads(self.body)

    @property
    def form(self) -> Parameters:
        """The fields of a urlencoded form; without a body there are none. ValueError for other types."""
        return self._cached("form", self._parse_form)

    def _parse_form(self) -> Parameters:
        if not self.body:
            return Parameters()
        if self.content_type != _FORM:
            raise ValueError(f"cannot read a form from content type {self.content_type!r}, only from {_FORM}")
        return Parameters.parse(self.text)

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"


def _decode(body: bytes, charset: str) -> str:
    try:
        if codecs.lookup(charset).name.replace("_", "-") not in _REFUSED_CHARSETS:
            return body.decode(charset)
    except LookupError:  # also for Python's codecs from bytes to bytes
        pass
    raise ValueError(f"unknown charset {charset!r}")
