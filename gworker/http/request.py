"""An HTTP request as the handler sees it.

It keeps the bytes of its head, which have passed the strict checks of the protocol, and parses on
demand: a WebSocket holds the request of its handshake for as long as it lives, and most handlers
look at two or three things. What was parsed is cached until `forget`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from gworker.core import RequestCore, parse_cookies
from gworker.core.request import ABSOLUTE
from gworker.http.charset import decode
from gworker.http.errors import BadRequest
from gworker.http.forwarded import Client, RequestOrigin, client_of, resolved
from gworker.http.headers import Headers, HeaderSource
from gworker.http.json import from_json
from gworker.http.parameters import Parameters
from gworker.http.upgrade import asks_for_websocket, check_upgrade

if TYPE_CHECKING:
    from gworker.http.forms import Form, UploadedFile
    from gworker.http.session import Session

_CHARSET = re.compile(r""";\s*charset\s*=\s*"?([^\s";]+)""", re.IGNORECASE)


Callbacks: TypeAlias = dict[str, Callable[..., object]]
# Turns the connection of a request into a WebSocket.
Upgrade: TypeAlias = "Callable[[Request, HeaderSource, Callbacks], None]"


class Request(RequestCore):
    """One request. `body` is bytes; `keep_alive` tells whether the connection outlives the
    exchange.

    `head` is everything up to and including the empty line.
    """

    __slots__ = ()

    max_json_size: ClassVar[int] = 1024 * 1024
    """Bytes of the largest body that `json` parses. The process sets it (--max-json-size)."""

    upload_dir: ClassVar[str | None] = None
    """Where files of forms are spooled; None: the temporary directory. The process sets it
    (--upload-dir)."""

    secret_keys: ClassVar[tuple[str, ...]] = ()
    """What signs sessions, the first one; the others are good, too. The process sets it
    (--secret-key)."""

    def __reduce__(self) -> tuple[object, ...]:
        # What pickle(3) copies: the bytes, and nothing that was parsed from them.
        return Request, (self._head, self.body, self.keep_alive, resolved(self._origin))

    def come_from(self, origin: RequestOrigin) -> None:
        """Ask `origin` from now on where it comes from, if that says what is known."""
        if resolved(origin) == resolved(self._origin):
            self._origin = origin

    @property
    def query(self) -> Parameters:
        """The decoded query string. BadRequest (400) if it has more than 1000 parameters."""
        return self._cached("query", self._parse_query)

    def _parse_query(self) -> Parameters:
        try:
            return Parameters.parse(self.query_string)
        except ValueError as error:
            raise BadRequest(f"malformed query: {error}") from None

    @property
    def headers(self) -> Headers:
        """The header fields; values are latin-1. Host is that of the target, if that is a whole URL
        (RFC 9112 section 3.2.2)."""
        return self._cached("headers", self._parse_headers)

    def _parse_headers(self) -> Headers:
        headers = self._headers(Headers)
        target = self.target
        if not target.startswith("/") and (absolute := ABSOLUTE.match(target)):
            headers["Host"] = absolute[2]
        return headers

    @property
    def _client(self) -> Client:
        return self._cached("client", self._find_client)

    def _find_client(self) -> Client:
        absolute = ABSOLUTE.match(self.target)
        target = (absolute[1].lower(), absolute[2]) if absolute else None
        return client_of(self.headers, self._origin, target)

    @property
    def client_ip(self) -> str:
        """The client's IP address: the peer's, or what trusted proxies say (--forwarded-allow-ips).

        "" if they say that it is not known, and for the peer of a unix socket.
        """
        return self._client.ip

    @property
    def scheme(self) -> str:
        """ "http" or "https" (TLS): how the client has asked, by what trusted proxies say."""
        return self._client.scheme

    @property
    def host(self) -> str:
        """The host that was asked for, with its port if one was given: of the target, if that is a
        whole URL, else the Host field; of the client's request, by what trusted proxies say."""
        return self._client.host

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies as sent: no percent-decoding."""
        return self._cached("cookies", self._parse_cookies)

    def _parse_cookies(self) -> dict[str, str]:
        return parse_cookies("; ".join(self.headers.get_all("Cookie")))

    @property
    def session(self) -> Session:
        """The session of the client: a dict of JSON values, kept in a signed cookie.

        What it holds when the answer is sent is the session of the client's next request; in a
        WebSocket, and once the request is answered, it is only read. RuntimeError without
        --secret-key.
        """
        return self._cached("session", self._open_session)

    def _open_session(self) -> Session:
        if not self.secret_keys:
            raise RuntimeError(
                "request.session needs a key that signs it: --secret-key KEY or FILE"
            )
        from gworker.http.session import Session  # what has no session loads no signatures

        session = Session(self, self.secret_keys)
        keep = getattr(self._origin, "keep_session", None)
        if keep is not None:
            keep(self._head, session)
        return session

    @property
    def content_type(self) -> str:
        """Media type of the body in lower case, without parameters; "" if none was given."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def text(self) -> str:
        """The body as str, by the charset of Content-Type, else UTF-8. ValueError if it is
        something else."""
        given = _CHARSET.search(self.headers.get("Content-Type", ""))
        return decode(self.body, given[1] if given else "utf-8")

    def json(self) -> Any:
        """The body parsed as JSON. BadRequest, a ValueError, if it is none, or too deeply nested
        for Python.

        BadRequest (413) if it is longer than `max_json_size`: the parser cannot be interrupted, so
        nothing else in the process runs meanwhile.
        """
        body = self._body_up_to(self.max_json_size, "JSON longer than {} bytes (max_json_size)")
        try:
            return from_json(body)
        except ValueError as error:
            raise BadRequest(f"malformed JSON: {error}") from None
        except RecursionError:
            raise BadRequest("JSON that is nested too deeply") from None

    def _body_up_to(self, limit: int, text: str) -> bytes:
        if len(self.body) > limit:
            raise BadRequest(text.format(limit), 413)
        return self.body

    @property
    def stream(self) -> io.BufferedIOBase:
        """The body as a binary file: `read`, `readline`, iteration over its lines.

        With the Worker's `stream_above` it is read while it arrives: reading waits, and the client
        is held back. Raises TimeoutError when too little comes in `header_timeout`, ConnectionError
        when the client has gone, ValueError for a malformed chunk.
        """
        return self._cached("stream", lambda: io.BytesIO(self.body))

    @property
    def form(self) -> Parameters:
        """The fields of a form, urlencoded or multipart, files aside; without a body there are
        none.

        ValueError for other types and for what is malformed: let it escape, and the client gets a
        400.
        """
        return self.parse_form().fields

    @property
    def files(self) -> dict[str, UploadedFile]:
        """The files of a multipart form, by the names of their fields; of several the last (see
        `parse_form`)."""
        return dict(self.parse_form().files)

    def parse_form(
        self, max_size: int | None = None, max_parts: int = 1000, max_files: int = 64
    ) -> Form:
        """Read the form: `fields`, and `files` as (name, file) pairs. Only the first call reads it.

        max_size: bytes that a streamed multipart body may have; 100 MiB if not given. A larger one
        is a BadRequest (413), and so is one of more than `max_parts` parts, or `max_files` files.
        Files above 64 KiB, and all that come when those before hold 1 MiB of memory, are temporary
        files: each takes a descriptor, and is closed when the request is answered.
        """
        return self._cached("form", lambda: self._read_form(max_size, max_parts, max_files))

    def _read_form(self, max_size: int | None, max_parts: int, max_files: int) -> Form:
        # The parser of multipart is slow to import.
        from gworker.http.forms import (
            MULTIPART,
            URLENCODED,
            MultipartReader,
            parse_urlencoded,
        )

        kind = self.content_type
        if kind == MULTIPART:
            return MultipartReader(
                self.headers, self.stream, self.upload_dir, max_size, max_parts, max_files
            ).read()
        if self.body and kind != URLENCODED:
            raise BadRequest(
                f"cannot read a form from content type {kind!r}, only from {URLENCODED} and "
                f"{MULTIPART}",
                415,
            )
        try:
            return parse_urlencoded(self.text if self.body else "")
        except ValueError as error:
            raise BadRequest(f"malformed form: {error}") from None

    def close(self) -> None:
        """Close the files of its form. Done by itself when the request is answered."""
        form = (self._cache or {}).get("form")
        if form is not None:
            form.close()

    @property
    def is_websocket(self) -> bool:
        """Whether it asks to open a WebSocket (RFC 6455 section 4.1): see `upgrade`."""
        return asks_for_websocket(self.headers)

    def upgrade(
        self,
        *,
        headers: HeaderSource = (),
        on_message: Callable[..., object] | None = None,
        on_close: Callable[..., object] | None = None,
    ) -> None:
        """Make the connection a WebSocket, in place of an answer. In the handler of the request, or
        later.

        From here on `connection.send` sends messages of the WebSocket, and the peer's come as str
        or bytes to the Worker's `on_message`, or to the one given here, which is set for this
        connection alone; so is `on_close`. headers: fields for the 101. A request that does not
        open a WebSocket is a BadRequest, which answers it with 426 or 400 if it is let escape.
        RuntimeError when it was answered already.
        """
        upgrade = self._take_upgrade()
        if upgrade is None:
            check_upgrade(self.method, self.version, self.headers)
            raise RuntimeError(
                "only the request that a connection has just received can be upgraded"
            )
        given = {"on_message": on_message, "on_close": on_close}
        callbacks = {name: each for name, each in given.items() if each is not None}
        upgrade(self, headers, callbacks)

    def _take_upgrade(self) -> Upgrade | None:
        return None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"


class OfferingRequest(Request):
    """A request that offers to switch protocols. `upgrade` does it, once; `attach` says how."""

    __slots__ = ("_upgrade",)

    def __init__(self, head: bytes, keep_alive: bool, origin: RequestOrigin) -> None:
        super().__init__(head, b"", keep_alive, origin)
        self._upgrade: Upgrade | None = None

    def attach(self, upgrade: Upgrade) -> None:
        self._upgrade = upgrade

    def _take_upgrade(self) -> Upgrade | None:
        upgrade, self._upgrade = self._upgrade, None
        return upgrade
