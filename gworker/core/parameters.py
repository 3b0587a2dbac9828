"""Form fields and cookies, in plain Python."""

from __future__ import annotations

from urllib.parse import unquote

# Characters of what is parsed at once; with more, others have their turn meanwhile.
SMALL = 8192
MAX_PAIRS = 1000


def parse_pairs(encoded: str) -> list[tuple[str, str]] | None:
    """The decoded fields of application/x-www-form-urlencoded, in order, if these are few."""
    if len(encoded) > SMALL or not encoded.isascii() or encoded.count("&") >= MAX_PAIRS - 1:
        return None
    pairs = []
    for field in encoded.replace("+", " ").split("&"):
        name, separator, value = field.partition("=")
        if name or separator:
            pairs.append((unquote(name), unquote(value)))
    return pairs


def parse_cookies(field: str) -> dict[str, str]:
    """Return the cookies of a Cookie field; values as sent, without the quotes around them.

    Of two cookies with one name the first counts: browsers send the more specific path first.
    """
    cookies: dict[str, str] = {}
    for part in field.split(";"):
        name, separator, value = part.partition("=")
        name = name.strip()
        if separator and name and name not in cookies:
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            cookies[name] = value
    return cookies
