"""An HTTP response as the handler gives it. The protocol turns it into bytes.

Content-Length, Transfer-Encoding and Connection belong to the protocol, which knows how the message
is framed; what a handler sets there is dropped, except that

- `Connection: close` closes the connection after the response, and
- a Content-Length is believed where there is no content to measure: in the answer to HEAD and in a
  304, if the body is empty.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from gworker.http.cookies import format_cookie
from gworker.http.headers import Headers, HeaderSource

_URI_PUNCTUATION = "%/:=&?~#+!$,;'@()*[]"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Response:
    """Body, status and header fields. A str body is sent as UTF-8.

    Without `content_type` or a Content-Type header a str is "text/html; charset=utf-8" and bytes are
    "application/octet-stream"; an empty body gets none.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        body: bytes | str = b"",
        status: int = 200,
        headers: HeaderSource | None = None,
        content_type: str | None = None,
    ) -> None:
        if not isinstance(body, (bytes, str, bytearray, memoryview)):
            raise TypeError(f"a response body is bytes or str, not {type(body).__name__}")
        self.body = body
        self.status = status
        self.headers = Headers(headers or ())
        if content_type is not None:
            self.headers["Content-Type"] = content_type

    @classmethod
    def json(cls, obj: Any, status: int = 200) -> Response:
        """Return `obj` as application/json."""
        return cls(json.dumps(obj, ensure_ascii=False).encode(), status, content_type="application/json")

    @classmethod
    def redirect(cls, location: str, status: int = 302) -> Response:
        """Send the client to `location`, percent-encoded where needed; controls are a ValueError."""
        if not 300 <= status <= 399:
            raise ValueError(f"a redirect has a status of 300 to 399, not {status}")
        if _CONTROL.search(location):
            raise ValueError(f"cannot redirect to {location!r}: it contains a control character")
        return cls(b"", status, {"Location": quote(location, safe=_URI_PUNCTUATION)})

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
    ) -> None:
        """Add a Set-Cookie field; `max_age` in seconds, None = until the browser closes."""
        cookie = format_cookie(
            name,
            value,
            max_age=max_age,
            path=path,
            domain=domain,
            secure=secure,
            httponly=httponly,
            samesite=samesite,
        )
        self.headers.add("Set-Cookie", cookie)

    def delete_cookie(self, name: str, path: str | None = "/", domain: str | None = None) -> None:
        """Make the browser forget a cookie that was set with this path and domain."""
        self.set_cookie(name, "", max_age=0, path=path, domain=domain)

    def __repr__(self) -> str:
        return f"<Response {self.status} {len(self.body)} bytes>"
