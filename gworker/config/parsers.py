"""Parsers of option values: text in, value out, or ValueError saying what was expected.

Who calls one adds where the text came from (a flag, or a file and its key) and the text itself, so
that all layers of configuration complain in the same words. Paths become absolute here, against the
current directory.
"""

from __future__ import annotations

import grp
import math
import pwd
import re
from collections.abc import Callable, Iterable
from typing import Final

from gworker.errors import ConfigError
from gworker.system import directory

LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
LOG_FORMATS: Final = ("text", "json")
STDOUT: Final = "-"

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
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError("seconds, 0 or more")
    return value


def some_seconds(text: str) -> float:
    """Seconds, more than zero."""
    try:
        value = seconds(text)
    except ValueError:
        value = 0.0
    if value == 0:
        raise ValueError("seconds, more than 0")
    return value


def size(text: str) -> int:
    """Bytes: a number with an optional unit; K, KB and KiB all mean 1024."""
    found = _SIZE.fullmatch(text)
    value = int(float(found[1]) * _UNITS[(found[2] or "").upper()]) if found else 0
    if value < 1:
        raise ValueError("a size in bytes, 1 or more, as in 65536, 64K or 10MiB")
    return value


def size_or_none(text: str) -> int:
    """The same, or 0: no limit."""
    return 0 if text == "0" else size(text)


def octal(text: str) -> int:
    """A umask, written in octal."""
    if not re.fullmatch(r"(0o)?[0-7]{1,4}", text) or int(text, 8) > 0o777:
        raise ValueError("an octal mask from 0 to 777, as in 027")
    return int(text, 8)


def mode(text: str) -> str:
    """The mode of a file, written in octal; it stays a text, which means the same in a file of
    settings."""
    octal(text)
    return text


def automatic(text: str) -> str:
    """The word for what is otherwise true or false."""
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
    """A listen address. Only its outline is checked here; who binds it knows the schemes."""
    scheme, separator, rest = text.partition("://")
    if not (scheme and separator and rest):
        raise ValueError("SCHEME://HOST:PORT or unix:///PATH")
    return text


def networks(text: str) -> str:
    """IP addresses and networks, `unix` and `*`, separated by commas; in their normal form."""
    from gworker.config.trusted_proxies import (
        parse,  # with ipaddress, which hardly any command needs
    )

    return parse(text)


def variable(text: str) -> tuple[str, str]:
    """One environment variable, K=V."""
    key, separator, value = text.partition("=")
    if not (key and separator) or "\0" in text:
        raise ValueError("NAME=VALUE")
    return key, value


def log_level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise ValueError("one of " + ", ".join(LOG_LEVELS))
    return text.lower()


def log_format(text: str) -> str:
    if text.lower() not in LOG_FORMATS:
        raise ValueError("one of " + ", ".join(LOG_FORMATS))
    return text.lower()


def path_or_stdout(text: str) -> str:
    """A path, or "-" for stdout."""
    return text if text == STDOUT else path(text)


def user(text: str) -> str:
    try:
        user_id(text)
    except ConfigError:
        raise ValueError("a user that exists, or a numeric id") from None
    return text


def group(text: str) -> str:
    try:
        group_id(text)
    except ConfigError:
        raise ValueError("a group that exists, or a numeric id") from None
    return text


def user_id(text: str) -> int:
    """The uid of a user name or of a decimal number. Raises ConfigError."""
    try:
        return int(text) if _is_id(text) else pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        raise ConfigError(f"no such user: {text!r}") from None


def group_id(text: str) -> int:
    """The gid of a group name or of a decimal number. Raises ConfigError."""
    try:
        return int(text) if _is_id(text) else grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        raise ConfigError(f"no such group: {text!r}") from None


def _is_id(text: str) -> bool:
    # 2**32 - 1 is the kernel's "leave it as it is": setuid(-1) would not drop anything.
    return text.isascii() and text.isdigit() and int(text) < 2**32 - 1


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or what there is if nothing is near."""
    names = sorted(known)
    return near(name, names) or f"; there are {', '.join(names)}"


def near(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """`; did you mean …?`, or nothing if nothing is near. cutoff: how near, from 0 to 1."""
    import difflib

    given = name.replace("-", "_").lower()
    if given.endswith(
        "preload"
    ):  # other servers have it: spelt like `reload`, and nearly the opposite
        return ""
    names = {each.replace("-", "_").lower(): each for each in known}
    found = difflib.get_close_matches(given, names, n=1, cutoff=cutoff)
    return f"; did you mean {names[found[0]]}?" if found else ""
