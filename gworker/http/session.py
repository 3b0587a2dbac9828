"""Sessions in a signed cookie: what a client brings back, as it was given to it.

The client can read its session, and cannot change it. What it brings is a session only if one of
the keys has signed it and it is not too old; else the session is empty. itsdangerous signs, and
compares in constant time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, ClassVar, Final, Protocol

from itsdangerous import BadData, URLSafeTimedSerializer

from gworker.http.cookies import format_cookie
from gworker.http.headers import Headers

# RFC 6265 section 6.1: what browsers keep of one cookie, with its name and attributes.
LARGEST: Final = 4096

FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Proto")


class Bringer(Protocol):
    """What a session reads of the request that brings it."""

    @property
    def cookies(self) -> Mapping[str, str]: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def scheme(self) -> str: ...
    @property
    def client_ip(self) -> str: ...


class Session(dict[str, Any]):
    """The session of a request: a dict of JSON values. What is in it when the answer is sent comes
    back with the next request.

    The attributes of the class hold for all sessions of the process; set them as the target is
    loaded. cookie_name: of the cookie. max_age: seconds for which it is good without being used.
    same_site: `Lax`, `Strict` or `None`. secure: None: but for plain HTTP from this machine, see
    the page of sessions. path, domain: of the cookie.
    """

    __slots__ = ("_given", "_is_secure", "_is_stale", "_keys", "is_dropped")

    cookie_name: ClassVar[str] = "session"
    max_age: ClassVar[int] = 14 * 86400
    same_site: ClassVar[str] = "Lax"
    secure: ClassVar[bool | None] = None
    path: ClassVar[str] = "/"
    domain: ClassVar[str | None] = None

    def __init__(self, request: Bringer, keys: tuple[str, ...]) -> None:
        """The session that `request` brings. keys: the first one signs."""
        super().__init__()
        self._keys = keys
        self._is_secure = is_secure(request) if self.secure is None else self.secure
        # Browsers drop its cookie: that is Secure, and the request came over plain HTTP.
        self.is_dropped = self._is_secure and request.scheme == "http"
        self._given: str | None = None  # as the client has it; None: it has none
        self._is_stale = False  # half of its time is over: it is given anew
        cookie = request.cookies.get(self.cookie_name)
        if cookie is not None:
            self._load(cookie)

    def _load(self, cookie: str) -> None:
        self._given = ""  # what is wrong is removed, unless there is a new one
        serializer = _serializer(self._keys, self.cookie_name)
        try:
            found, since = serializer.loads(cookie, self.max_age, return_timestamp=True)
        except BadData:
            return
        if not isinstance(found, dict):
            return
        self.update(found)
        self._given = _text(found)
        self._is_stale = (datetime.now(UTC) - since).total_seconds() > self.max_age / 2

    def fields(self) -> bytes:
        """The fields of the answer that give the client its session, as far as it has another one.

        Raises TypeError for what is no JSON, ValueError if it does not fit in a cookie.
        """
        vary = b"Vary: Cookie\r\n"
        text = _text(self) if self else ""
        if text == (self._given or "") and not self._is_stale:
            gone = self._given == ""  # it was wrong, or too old
            return vary + self._cookie("", 0) if gone else vary
        if not text:
            return vary + self._cookie("", 0)
        value = _serializer(self._keys, self.cookie_name).dumps(dict(self))
        return vary + self._cookie(
            value if isinstance(value, str) else value.decode(), self.max_age
        )

    def _cookie(self, value: str, max_age: int) -> bytes:
        cookie = format_cookie(
            self.cookie_name, value, max_age=max_age, path=self.path, domain=self.domain,
            secure=self._is_secure, httponly=True, samesite=self.same_site,
        )  # fmt: skip
        if len(cookie) > LARGEST:
            raise ValueError(
                f"the session takes {len(cookie)} bytes as a cookie, of which browsers keep "
                f"{LARGEST}: what is larger belongs in gworker.messages.data, or in a database, "
                "under a key that the session holds"
            )
        return b"Set-Cookie: %b\r\n" % cookie.encode("latin-1")


def is_secure(request: Bringer) -> bool:
    """False for plain HTTP from a program on this machine that is no proxy: browsers would not
    bring a Secure cookie back, and nobody listens on the way."""
    if request.scheme == "https" or any(name in request.headers for name in FORWARDED):
        return True
    try:
        return not ip_address(request.client_ip).is_loopback
    except ValueError:  # a unix socket
        return True


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@lru_cache(maxsize=8)
def _serializer(keys: tuple[str, ...], name: str) -> URLSafeTimedSerializer:
    import hashlib

    return URLSafeTimedSerializer(
        list(reversed(keys)),  # the last one signs there
        salt=f"gworker.session.{name}",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )
