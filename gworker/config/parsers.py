"""Parsers of option values: text in, value out, or ValueError saying what was expected.

The caller adds the text and where it came from (a flag, or a file and its key), so that all layers
of settings report a bad value in the same words. Paths become absolute here, against the current
directory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from gworker.broker.url import EXPECTED, BrokerUrl, read
from gworker.errors import ConfigError
from gworker.system import directory, privileges

LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
LOG_FORMATS: Final = ("text", "json")
STDOUT: Final = "-"
UNIX, ALL = "unix", "*"  # of `networks`: unix sockets, every peer

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE | re.ASCII)


def whole(minimum: int) -> Callable[[str], int]:
    """A parser of decimal integers not below `minimum`."""

    def parse(text: str) -> int:
        # int() would also take "1_000", " 1 " and digits of other scripts.
        if not re.fullmatch(r"[+-]?[0-9]+", text) or int(text) < minimum:
            raise ValueError(f"a whole number, {minimum} or more")
        return int(text)

    return parse


def seconds(text: str) -> float:
    """Seconds, fractions allowed, zero or more."""
    with suppress(ValueError):
        if 0 <= (value := float(text)) < math.inf:
            return value
    raise ValueError("seconds, 0 or more")


def some_seconds(text: str) -> float:
    """Seconds, more than zero."""
    with suppress(ValueError):
        if value := seconds(text):
            return value
    raise ValueError("seconds, more than 0")


def size(text: str) -> int:
    """Bytes: a number with an optional unit; K, KB and KiB all mean 1024."""
    found = _SIZE.fullmatch(text)
    value = float(found[1]) * _UNITS[(found[2] or "").upper()] if found else 0.0
    if not 1 <= value < math.inf:
        raise ValueError("a size in bytes, 1 or more, as in 65536, 64K or 10MiB")
    return int(value)


def size_or_none(text: str) -> int:
    """Bytes as of `size`, or 0."""
    return 0 if text == "0" else size(text)


def octal(text: str) -> int:
    """A umask, written in octal."""
    if not re.fullmatch(r"(0o)?[0-7]{1,4}", text) or int(text, 8) > 0o777:
        raise ValueError("an octal mask from 0 to 777, as in 027")
    return int(text, 8)


def mode(text: str) -> str:
    """The mode of a file, written in octal. It stays a text, which a Worker takes as well."""
    octal(text)
    return text


def automatic(text: str) -> str:
    """The third value of a setting that is true, false or "auto"."""
    if text != "auto":
        raise ValueError('true, false or "auto"')
    return text


def path(text: str) -> str:
    """A path, made absolute against the current directory."""
    if not text or "\0" in text:
        raise ValueError("a path")
    try:
        return directory.absolute(text)
    except FileNotFoundError:
        raise ValueError("an absolute path, for the current directory was removed") from None


def name(text: str) -> str:
    """An instance name: it is shown in process titles and lists, so it must be printable."""
    if not text or not text.isprintable():
        raise ValueError("a name without control characters")
    return text


def url(text: str) -> str:
    """A listen address. Only its outline is checked here: the target may register schemes."""
    scheme, separator, rest = text.partition("://")
    if not (scheme and separator and rest):
        raise ValueError("SCHEME://HOST:PORT or unix:///PATH")
    return text


def broker(text: str) -> BrokerUrl:
    """Where messages between processes go; not `memory`, which is of one process."""
    found = read(text)
    if found.kind == "memory":
        raise ValueError(EXPECTED)
    return found


def cluster_name(text: str) -> str:
    """A name that becomes part of keys and channels of a Redis."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError("1 to 64 letters, digits, dots, - or _")
    return text


def networks(text: str) -> str:
    """IP addresses and networks, `unix` and `*`, separated by commas; in their normal form."""
    from ipaddress import ip_network  # here: hardly any command needs it

    parts = []
    for part in text.replace(",", " ").split():
        try:
            parts.append(part if part in (UNIX, ALL) else str(ip_network(part)))
        except ValueError:
            raise ValueError(
                "IP addresses or networks (10.0.0.0/8), unix or *, separated by commas"
            ) from None
    return ",".join(part.removesuffix("/32" if "." in part else "/128") for part in parts)


def variable(text: str) -> tuple[str, str]:
    """One environment variable, K=V."""
    key, separator, value = text.partition("=")
    if not (key and separator) or "\0" in text:
        raise ValueError("NAME=VALUE")
    return key, value


def one_of(*words: str) -> Callable[[str], str]:
    """A parser of these words, in either case."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError("one of " + ", ".join(words))
        return text.lower()

    return parse


def root_path(text: str) -> str:
    """Where an application is mounted, percent-decoded; "" is the root."""
    if text and (not text.startswith("/") or text.endswith("/") or not text.isprintable()):
        raise ValueError('a path such as /shop, without a "/" at its end, or nothing')
    return text


def path_or_stdout(text: str) -> str:
    """A path, or "-" for stdout."""
    return text if text == STDOUT else path(text)


def user(text: str) -> str:
    """The name of a user, or a uid."""
    try:
        privileges.resolve(text, None)
    except ConfigError:
        raise ValueError("a user that exists, or a numeric id") from None
    return text


def group(text: str) -> str:
    """The name of a group, or a gid."""
    try:
        privileges.resolve(None, text)
    except ConfigError:
        raise ValueError("a group that exists, or a numeric id") from None
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or what there is if nothing is near."""
    names = sorted(known)
    return near(name, names) or f"; there are {', '.join(names)}"


def near(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """`; did you mean …?`, or nothing if nothing is near. cutoff: how near, from 0 to 1."""
    import difflib

    def compared(word: str) -> str:  # what all variables begin with makes none of them near
        return word.replace("-", "_").lower().removeprefix("gworker_")

    names = {compared(each): each for each in known}
    found = difflib.get_close_matches(compared(name), names, n=1, cutoff=cutoff)
    return f"; did you mean {names[found[0]]}?" if found else ""
