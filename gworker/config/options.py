"""The options of the command line as one table: names, parsers, defaults, what a reload can change.

`OPTIONS` is the only list of options. The argparse parsers are built from it (`add_options`), and
so is every other layer of values (sources.py). Paths become absolute when parsed, that is before
any --chdir.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from gworker.broker.url import LOCAL, without_password
from gworker.config.access_format import access_format
from gworker.config.parsers import (
    LOG_FORMATS,
    LOG_LEVELS,
    broker,
    cluster_name,
    group,
    name,
    networks,
    octal,
    one_of,
    path,
    path_or_stdout,
    root_path,
    seconds,
    size,
    size_or_none,
    some_seconds,
    url,
    user,
    variable,
    whole,
)
from gworker.config.secret_keys import hidden, secret_key


class InvalidValue(argparse.ArgumentTypeError, ValueError):
    """A text that is no value of an option, and what was expected."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `parse` is None for a switch; `key` names it in layers and in `Settings`."""

    flags: tuple[str, ...]
    parse: Callable[[str], object] | None
    default: object
    metavar: str
    help: str
    repeat: bool = False  # may be given more than once; the value is a tuple
    identity: bool = False  # also understood by the commands for a running instance
    restart: bool = False  # a reload cannot change it: the arbiter has acted on it
    file: bool = True  # may stand in a file of settings
    limit: bool = False  # also a Worker argument; in `Settings.limits` if it is given
    implied: object = None  # the value in force if it is None; or a function that returns that
    hide: Callable[[str], str] | None = None  # what an error may show of a secret value

    @property
    def name(self) -> str:
        """The long flag, without `--`."""
        return self.flags[-1].removeprefix("--")

    @property
    def key(self) -> str:
        """The name as an identifier."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"GWORKER_{self.key.upper()}"

    def value(self, text: str) -> object:
        """The parsed value; not for a switch. Raises InvalidValue."""
        assert self.parse is not None
        try:
            return self.parse(text)
        except ValueError as error:
            raise InvalidValue(f"{self.shown(text)!r} is not valid, expected {error}") from None

    def shown(self, text: str) -> str:
        """`text` as an error may show it."""
        return text if self.hide is None else self.hide(text)


# fmt: off
OPTIONS: Final = (
    Option(("-c", "--config"), path, None, "FILE",
           "read settings from FILE", identity=True, file=False),
    Option(("-w", "--workers"), whole(1), None, "N",
           "processes per Worker that sets no count (1)", implied=1),
    Option(("-b", "--bind"), url, (), "URL",
           "where handlers listen (http://127.0.0.1:8000)", repeat=True),
    Option(("--app",), one_of("wsgi", "handler"), None, "KIND",
           "what a callable target is: wsgi or handler (by inspection)"),
    Option(("--root-path",), root_path, "", "PATH",
           "SCRIPT_NAME of a WSGI application: the path where it is mounted"),
    Option(("-d", "--daemon"), None, False, "",
           "run in the background; return when workers are ready", restart=True),
    Option(("-n", "--name"), name, None, "NAME",
           "name of the instance (the TARGET)", identity=True, restart=True),
    Option(("--pid",), path, None, "FILE",
           "a further pid file; commands find it by that", identity=True, restart=True),
    Option(("--runtime-dir",), path, None, "DIR",
           "of pid files and control sockets",
           identity=True, restart=True, implied=lambda: default_runtime_dirs()[0]),
    Option(("--chdir",), path, None, "DIR",
           "change to DIR before the target is loaded", restart=True),
    Option(("--umask",), octal, None, "MASK",
           "file mode mask of all processes, octal", restart=True),
    Option(("--user",), user, None, "USER", "run worker processes as USER, a name or an id"),
    Option(("--group",), group, None, "GROUP", "run worker processes as GROUP, a name or an id"),
    Option(("--env",), variable, (), "K=V",
           "set an environment variable for the target", repeat=True),
    Option(("--stdout-file",), path, None, "FILE",
           "append stdout and stderr to FILE", restart=True),
    Option(("--log-file",), path, None, "FILE",
           "append the log to FILE (stderr; daemon: NAME.log)", restart=True),
    Option(("--log-level",), one_of(*LOG_LEVELS), "info", "LEVEL",
           ", ".join(LOG_LEVELS) + " (info)"),
    Option(("--log-format",), one_of(*LOG_FORMATS), "text", "FORMAT",
           ", ".join(LOG_FORMATS) + " (text)", restart=True),
    Option(("--access-log",), path_or_stdout, None, "FILE",
           "a line per exchange to FILE, - for stdout", restart=True),
    Option(("--access-log-format",), access_format, None, "FORMAT",
           "of the access log: combined, or text with atoms as %%(h)s (combined)"),
    Option(("--broker",), broker, LOCAL, "URL",
           "where messages between processes go: local, redis://HOST (local)",
           restart=True, hide=without_password),
    Option(("--cluster-name",), cluster_name, None, "NAME",
           "the instances of that name at one Redis share messages", restart=True),
    Option(("--broker-mode",), octal, 0o660, "OCTAL",
           "file mode of the local broker's socket (660)", restart=True),
    Option(("--broker-group",), group, None, "GROUP",
           "group of the local broker's socket, a name or an id", restart=True),
    Option(("--preload",), None, False, "",
           "load the target once per generation, and fork the processes from that"),
    Option(("--graceful-timeout",), seconds, 30.0, "S", "a retiring process may take S (30)"),
    Option(("--boot-timeout",), some_seconds, 60.0, "S", "a process must be ready within S (60)"),
    Option(("--timeout",), seconds, 60.0, "S",
           "replace a process whose loop hangs for S (60; 0: never)"),
    Option(("--computing-processes",), whole(1), None, "N",
           "processes that gworker.computing may use (processors)",
           implied=lambda: len(os.sched_getaffinity(0))),
    Option(("--max-requests",), whole(0), 0, "N", "recycle a process after N requests (0: never)"),
    Option(("--max-requests-jitter",), whole(0), 0, "N",
           "up to N requests more, drawn per process (0)"),
    Option(("--max-memory",), size_or_none, 0, "SIZE",
           "recycle a process whose RSS stays above SIZE (0: never)"),
    Option(("--max-age",), seconds, 0.0, "S", "recycle a process at most S old (0: never)"),
    Option(("--reload",), None, False, "",
           "reload when a source file changes (for development)", restart=True),
    Option(("--reload-extra",), path, (), "GLOB",
           "what --reload watches too, as **/*.html", repeat=True, restart=True),
    Option(("--max-connections",), whole(0), 0, "N", "per process (0: by file limit)", limit=True),
    Option(("--max-connections-per-address",), whole(0), 0, "N",
           "per process and IP address (0: any number)", limit=True),
    Option(("--idle-timeout",), seconds, 0, "S",
           "close a connection silent for S (0: never)", limit=True),
    Option(("--keep-alive",), seconds, 75, "S",
           "until the next HTTP request (75; 0: any time)", limit=True),
    Option(("--header-timeout",), seconds, 10, "S", "for a whole request head (10)", limit=True),
    Option(("--handshake-timeout",), seconds, 10, "S",
           "for a TLS or WebSocket handshake (10)", limit=True),
    Option(("--message-timeout",), seconds, 0, "S",
           "for the rest of a message that has begun (0: any time)", limit=True),
    Option(("--send-timeout",), seconds, 60, "S",
           "cut a peer that takes nothing for S (60; 0: never)", limit=True),
    Option(("--handler-timeout",), seconds, 0, "S",
           "end a callback that has run for S (0: never)", limit=True),
    Option(("--close-timeout",), seconds, 5, "S",
           "for a closing connection to flush (5; 0: any time)", limit=True),
    Option(("--min-rate",), whole(0), 240, "N",
           "bytes/s that slow peers must send or take (240; 0: any)", limit=True),
    Option(("--ping-interval",), seconds, 0, "S",
           "ask each WebSocket every S whether it is alive (0: never)", limit=True),
    Option(("--ping-timeout",), seconds, 20, "S",
           "close a WebSocket that has not answered within S (20)", limit=True),
    Option(("--proxy-protocol",), None, None, "",
           "read the header of the PROXY protocol", implied=False),
    Option(("--forwarded-allow-ips",), networks, (), "IPS",
           "proxies whose word on the client counts", repeat=True),
    Option(("--max-package-size",), size, 10 << 20, "SIZE",
           "of a message received (10MiB)", limit=True),
    Option(("--max-send-buffer-size",), size, 1 << 20, "SIZE",
           "per connection (1MiB)", limit=True),
    Option(("--kernel-send-buffer",), size_or_none, 256 << 10, "SIZE",
           "SO_SNDBUF of a connection (256KiB; 0: as it is)", limit=True),
    Option(("--max-json-size",), size, 1 << 20, "SIZE",
           "of JSON that a request is parsed for (1MiB)", limit=True),
    Option(("--secret-key",), secret_key, (), "KEY",
           "signs sessions: a key, or a FILE (/… or ./…); the first one signs",
           repeat=True, hide=hidden),
    Option(("--upload-dir",), path, None, "DIR",
           "where uploads are spooled (the temporary directory)"),
)
# fmt: on

# By `Option.key`: seconds, bytes, bytes per second or a count.
DEFAULT_LIMITS: Final[Mapping[str, float]] = {
    option.key: option.default
    for option in OPTIONS
    if option.limit and isinstance(option.default, int | float)
}


def default_runtime_dirs() -> tuple[str, ...]:
    """Where this user's instances have their runtime files, the first choice first.

    A command may run with another environment than the instance: under cron, sudo or ssh. So the
    list goes on with what does not depend on the environment. `master.runtime_files`
    makes the directories.
    """
    uid, environ = os.geteuid(), os.environ
    temporary = [
        os.path.join(each, f"gworker-{uid}")
        for each in (environ.get("TMPDIR", ""), "/tmp", "/var/tmp")
    ]
    if uid == 0:  # XDG_RUNTIME_DIR may be another user's: sudo can keep it
        named = ["/run/gworker", *temporary]
    else:
        users = os.path.join(environ.get("XDG_RUNTIME_DIR", ""), "gworker")
        named = [users, *temporary, f"/run/user/{uid}/gworker", "/run/gworker"]
    return tuple(dict.fromkeys(filter(os.path.isabs, named)))


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option] = OPTIONS) -> None:
    """Give `parser` these options. Those not given on the command line stay out of the
    namespace."""
    for option in options:
        add = partial(
            parser.add_argument,
            *option.flags, dest=option.key, default=argparse.SUPPRESS, help=option.help,
        )  # fmt: skip
        if option.parse is None:
            add(action="store_true")
        else:
            action = "append" if option.repeat else "store"
            add(action=action, type=option.value, metavar=option.metavar)
