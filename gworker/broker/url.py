"""The address of a broker: `local`, `memory`, or the URL of a Redis.

    redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/NAME[/DATABASE]
    redis+cluster://[USER:PASSWORD@]HOST[:PORT],…
    redis+unix://[USER:PASSWORD@]/PATH

With rediss in place of redis, the first three are over TLS: to Sentinels and what they watch, to
all nodes of a cluster. The text of a `BrokerUrl` is for people, and has no password. Nothing is
resolved or connected here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import unquote

from gworker.errors import BrokerError

Kind = Literal["local", "memory", "redis", "sentinel", "cluster", "unix"]

# What stands for a user and a password.
HIDDEN: Final = "***"

REDIS_PORT, SENTINEL_PORT = 6379, 26379

EXPECTED: Final = (
    "local, redis://, redis+sentinel://, redis+cluster://, redis+unix:// or, over TLS, rediss://, "
    "rediss+sentinel://, rediss+cluster://"
)


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """Where a broker is. `str` gives the text without its password.

    hosts: names or addresses, with their ports; of a Sentinel or a cluster several. service: the
    name under which Sentinels know the Redis. path: of its unix socket. user, password: "" if there
    is none.
    """

    kind: Kind
    text: str = field(default="", repr=False)
    hosts: tuple[tuple[str, int], ...] = ()
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    service: str = ""
    path: str = ""

    @property
    def is_redis(self) -> bool:
        return self.kind not in ("local", "memory")

    def __str__(self) -> str:
        return without_password(self.text)


def without_password(text: str) -> str:
    """`text`, which may be no URL at all, with `HIDDEN` in place of user and password."""
    before, at, after = text.rpartition("@")
    if not at:
        return text
    scheme, separator, _ = before.partition("://")
    return f"{scheme}://{HIDDEN}@{after}" if separator else f"{HIDDEN}@{after}"


def parse(text: str) -> BrokerUrl:
    """The address that `text` is. Raises BrokerError, which names the fault and no password."""
    try:
        return read(text)
    except ValueError as error:
        shown = without_password(text)
        raise BrokerError(f"broker {shown!r} is not valid, expected {error}") from None


def read(text: str) -> BrokerUrl:
    """The same; raises ValueError saying what was expected."""
    if text == "local":
        return LOCAL
    if text == "memory":
        return BrokerUrl("memory", text)
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _READERS:
        raise ValueError(EXPECTED)
    if not text.isprintable() or " " in text:
        raise ValueError("an address without spaces and control characters")
    credentials, at, place = rest.rpartition("@")
    user, _, password = credentials.partition(":")
    if at and not password:
        raise ValueError("a password after a colon, as in redis://:PASSWORD@HOST")
    if "?" in place or "#" in place:
        raise ValueError(f"nothing behind {place[: _end(place)]!r}, no ? and no #")
    return _READERS[scheme](scheme, text, place, unquote(user), unquote(password))


def _end(place: str) -> int:
    return min(index for mark in "?#" if (index := place.find(mark)) >= 0)


def _redis(scheme: str, text: str, place: str, user: str, password: str) -> BrokerUrl:
    host, _, database = place.partition("/")
    if "," in host:
        raise ValueError("one host; several are redis+sentinel:// or redis+cluster://")
    hosts = (_host(host, REDIS_PORT),)
    return BrokerUrl("redis", text, hosts, _has_tls(scheme), user, password, _database(database))


def _sentinel(scheme: str, text: str, place: str, user: str, password: str) -> BrokerUrl:
    hosts, _, path = place.partition("/")
    service, _, database = path.partition("/")
    if not service:
        raise ValueError("the name that the Sentinels watch, as in redis+sentinel://h1,h2/mymaster")
    return BrokerUrl(
        "sentinel", text, _hosts(hosts, SENTINEL_PORT), _has_tls(scheme), user, password,
        _database(database), unquote(service),
    )  # fmt: skip


def _cluster(scheme: str, text: str, place: str, user: str, password: str) -> BrokerUrl:
    hosts, _, database = place.partition("/")
    if database:
        raise ValueError(f"no /{database} at the end: a cluster has one database")
    return BrokerUrl("cluster", text, _hosts(hosts, REDIS_PORT), _has_tls(scheme), user, password)


def _unix(_: str, text: str, place: str, user: str, password: str) -> BrokerUrl:
    path = unquote(place)
    if not path.startswith("/") or path == "/":
        raise ValueError("an absolute path, as in redis+unix:///run/redis.sock")
    return BrokerUrl("unix", text, (), False, user, password, path=path)


_READERS: Final[dict[str, Callable[[str, str, str, str, str], BrokerUrl]]] = {
    "redis": _redis,
    "rediss": _redis,
    "redis+sentinel": _sentinel,
    "rediss+sentinel": _sentinel,
    "redis+cluster": _cluster,
    "rediss+cluster": _cluster,
    "redis+unix": _unix,
}


def _has_tls(scheme: str) -> bool:
    return scheme.startswith("rediss")


def _hosts(text: str, port: int) -> tuple[tuple[str, int], ...]:
    return tuple(_host(each, port) for each in text.split(","))


def _host(text: str, port: int) -> tuple[str, int]:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or rest[:1] not in ("", ":"):
            raise ValueError(f"an IPv6 address in brackets instead of {text!r}, as in [::1]:6379")
        separator, digits = rest[:1], rest[1:]
    else:
        host, separator, digits = text.partition(":")
        if ":" in digits:
            raise ValueError(f"an IPv6 address in brackets instead of {text!r}, as in [::1]:6379")
    if not host:
        raise ValueError(f"a host instead of {text!r}" if text else "a host")
    if not separator:
        return host, port
    if not (digits.isascii() and digits.isdigit() and 1 <= int(digits) <= 65535):
        raise ValueError(f"a port from 1 to 65535 instead of {digits!r}")
    return host, int(digits)


def _database(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"the number of a database instead of {text!r}")
    return int(text)


LOCAL: Final = BrokerUrl("local", "local")
