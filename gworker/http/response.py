"""An HTTP response as the handler gives it. The protocol turns it into bytes.

Content-Length, Transfer-Encoding, Connection and Date belong to the protocol, which knows how the
message is framed and when; what a handler sets there is dropped, except that

- `Connection: close` closes the connection after the response, and
- a Content-Length is believed where there is no content to measure: in the answer to HEAD and in a
  304, if the body is empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gworker.core.status import check_reason
from gworker.http.cookies import format_cookie
from gworker.http.files import FileBody
from gworker.http.headers import Headers, HeaderSource
from gworker.http.json import to_json
from gworker.http.sse import Event, EventBody, event_fields
from gworker.http.streaming import Body, IterBody, StreamedBody

if TYPE_CHECKING:
    from _typeshed import StrPath

_URI_PUNCTUATION = "%/:=&?~#+!$,;'@()*[]"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


BODIES = (bytes, str, bytearray, memoryview, StreamedBody)


class Response:
    """Body, status and header fields. A str body is sent as UTF-8; what `stream`, `events` and
    `file` make holds a `StreamedBody`.

    Without `content_type` or a Content-Type header a str is "text/html; charset=utf-8" and bytes
    are "application/octet-stream"; an empty body gets none. reason: the reason phrase, in latin-1
    and without controls, else ValueError; None: the usual one of the status.
    """

    __slots__ = ("body", "headers", "reason", "status")

    def __init__(
        self,
        body: Body = b"",
        status: int = 200,
        headers: HeaderSource | None = None,
        content_type: str | None = None,
        reason: str | None = None,
    ) -> None:
        # What is usual is asked for by identity, which costs half.
        if body.__class__ is not str and not isinstance(body, BODIES):
            raise TypeError(f"a response body is bytes or str, not {type(body).__name__}")
        if status.__class__ is not int and not isinstance(status, int):
            raise TypeError(f"a response status is a whole number, not {type(status).__name__}")
        self.body = body
        self.status = status
        if reason is not None:
            check_reason(reason)
        self.reason = reason
        self.headers = Headers(headers or ())
        if content_type is not None:
            self.headers["Content-Type"] = content_type

    @classmethod
    def json(cls, obj: object, status: int = 200) -> Response:
        """Return `obj` as application/json. ValueError for NaN and infinities, TypeError for what
        is no JSON."""
        return cls(to_json(obj), status, content_type="application/json")

    @classmethod
    def redirect(cls, location: str, status: int = 302) -> Response:
        """Send the client to `location`, percent-encoded where needed; controls are a
        ValueError."""
        if not 300 <= status <= 399:
            raise ValueError(f"a redirect has a status of 300 to 399, not {status}")
        if _CONTROL.search(location):
            raise ValueError(f"cannot redirect to {location!r}: it contains a control character")
        return cls(b"", status, {"Location": quote(location, safe=_URI_PUNCTUATION)})

    @classmethod
    def stream(
        cls,
        parts: Iterable[bytes | str],
        status: int = 200,
        headers: HeaderSource | None = None,
        content_type: str | None = None,
        length: int | None = None,
    ) -> Response:
        """Send `parts` one by one, each when the client has taken enough of those before it.

        They are produced in the connection's own greenlet, after the handler has returned, and may
        block: a generator may sleep or query. Sent chunked, or, with `length` in bytes, with a
        Content-Length; to HTTP/1.0 until the connection closes. If they raise, the connection is
        cut so that the client sees that something is missing. However it ends, a generator is
        closed.
        """
        return cls(IterBody(parts, length), status, headers, content_type)

    @classmethod
    def events(
        cls,
        events: Iterable[str | dict[str, Any] | Event],
        headers: HeaderSource | None = None,
        keep_alive: float = 0,
    ) -> Response:
        """Send Server-Sent Events (WHATWG HTML 9.2): each a str, an `Event`, or a dict of its
        arguments.

        The iterable may sleep between them; when the client goes, it is interrupted and closed.
        keep_alive: seconds of silence after which a comment is sent, for proxies that close idle
        connections; 0: none.
        """
        return cls(EventBody(events, keep_alive), 200, event_fields(headers or ()))

    @classmethod
    def file(
        cls,
        path: StrPath,
        content_type: str | None = None,
        download_name: str | None = None,
        headers: HeaderSource | None = None,
    ) -> Response:
        """Send the file at `path`, in pieces and no faster than the client takes them.

        It has ETag and Last-Modified, and answers conditional requests (304, 412) and a Range (206,
        416).
        content_type: guessed from its name if not given. download_name: the name under which the
        client is to save it. It is opened here: raises OSError if it cannot be, IsADirectoryError
        for what is no file.
        """
        body = FileBody(path)
        return cls(body, 200, body.fields(headers or (), content_type, download_name))

    def set_cookie(
        self,
        name: str,
        value: str,
        max_age: int | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: str | None = None,
        *,
        expires: datetime | float | None = None,
        partitioned: bool = False,
    ) -> None:
        """Add a Set-Cookie field (RFC 6265).

        max_age: seconds; expires: a date, or seconds since 1970; neither: until the browser closes.
        samesite: Strict, Lax or None. ValueError for what would not survive the journey, and for
        what browsers drop: Partitioned or SameSite=None without Secure, and what the prefixes
        __Secure- and __Host- forbid.
        """
        cookie = format_cookie(
            name,
            value,
            max_age=max_age,
            path=path,
            domain=domain,
            secure=secure,
            httponly=httponly,
            samesite=samesite,
            expires=expires,
            partitioned=partitioned,
        )
        self.headers.add("Set-Cookie", cookie)

    def delete_cookie(
        self,
        name: str,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: str | None = None,
        partitioned: bool = False,
    ) -> None:
        """Make the browser forget a cookie that was set with this path and domain (and, if so,
        partitioned)."""
        self.set_cookie(
            name, "", 0, path, domain, secure, httponly, samesite, partitioned=partitioned
        )

    def __repr__(self) -> str:
        size = self.body.length if isinstance(self.body, StreamedBody) else len(self.body)
        return f"<Response {self.status} {'unknown' if size is None else size} bytes>"
