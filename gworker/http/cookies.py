"""Cookies (RFC 6265): writing a Set-Cookie field. `gworker.core` reads a Cookie field."""

from __future__ import annotations

import re
from datetime import datetime

from gworker.core.fields import TOKEN

_NAME = re.compile(TOKEN)
_OCTETS = r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
# Section 4.1.1, cookie-octet: no space, quote, comma, semicolon, backslash, control or non-ASCII.
_VALUE = re.compile(f'{_OCTETS}|"{_OCTETS}"')
_ATTRIBUTE = re.compile(r"[\x20-\x3a\x3c-\x7e]*")
_SAME_SITE = ("Strict", "Lax", "None")


def format_cookie(
    name: str,
    value: str,
    *,
    max_age: int | None = None,
    path: str | None = "/",
    domain: str | None = None,
    secure: bool = False,
    httponly: bool = False,
    samesite: str | None = None,
    expires: datetime | float | None = None,
    partitioned: bool = False,
) -> str:
    """Return the value of a Set-Cookie field. ValueError for what the field cannot carry."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"cookie name {name!r} is not a token")
    if not _VALUE.fullmatch(value):
        raise ValueError(
            f"cookie {name}: {value!r} needs quoting, for instance with urllib.parse.quote"
        )
    same_site = samesite and samesite.capitalize()
    if same_site not in (None, *_SAME_SITE):
        raise ValueError(f"samesite must be one of {', '.join(_SAME_SITE)}, not {samesite!r}")
    _check_drops(name, secure, partitioned, same_site, path, domain)
    parts = [f"{name}={value}"]
    if expires is not None:
        from gworker.http.date import http_date

        seconds = expires.timestamp() if isinstance(expires, datetime) else expires
        parts.append(f"Expires={http_date(seconds)}")
    if max_age is not None:
        parts.append(f"Max-Age={int(max_age)}")
    for label, text in (("Path", path), ("Domain", domain), ("SameSite", same_site)):
        if text and not _ATTRIBUTE.fullmatch(text):
            raise ValueError(f"cookie attribute {label} cannot be {text!r}")
        if text:
            parts.append(f"{label}={text}")
    return "; ".join(
        parts + ["Secure"] * secure + ["HttpOnly"] * httponly + ["Partitioned"] * partitioned
    )


def _check_drops(
    name: str,
    secure: bool,
    partitioned: bool,
    same_site: str | None,
    path: str | None,
    domain: str | None,
) -> None:
    # Browsers silently drop cookies that break these rules (RFC 6265bis sections 4.1.3 and 5.7,
    # CHIPS).
    lower = name.lower()
    if not secure and (
        partitioned or same_site == "None" or lower.startswith(("__secure-", "__host-"))
    ):
        raise ValueError(
            f"cookie {name}: SameSite=None, Partitioned, __Secure- and __Host- need secure=True"
        )
    if lower.startswith("__host-") and (domain or path != "/"):
        raise ValueError(f"cookie {name}: __Host- needs path='/' and no domain")
