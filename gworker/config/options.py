"""The options of the command line as one table: names, parsers, defaults, what a reload can change.

`OPTIONS` is the only list of options. The argparse parsers are built from it (`add_options`), and
so is every other layer of values (sources.py). Paths become absolute when parsed, that is before
any --chdir.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gworker.config.parsers import (
    LOG_FORMATS,
    LOG_LEVELS,
    group,
    log_format,
    log_level,
    name,
    networks,
    octal,
    path,
    path_or_stdout,
    seconds,
    size,
    size_or_none,
    some_seconds,
    url,
    user,
    variable,
    whole,
)

if TYPE_CHECKING:
    import argparse

# The limits that a Worker argument may set as well. They are absent from `Settings.limits` unless
# given, so that a process can keep the order "default < Worker argument < command line".
DEFAULT_LIMITS: Final[Mapping[str, float | int]] = {
    "max_connections": 0,  # 0 = as many as the file limit allows
    "max_connections_per_address": 0,  # 0 = any number
    "idle_timeout": 0,  # seconds; 0 = never
    "keep_alive": 75,
    "header_timeout": 10,
    "handshake_timeout": 10,
    "message_timeout": 0,
    "send_timeout": 60,
    "close_timeout": 5,
    "min_rate": 240,  # bytes per second; 0 = any
    "ping_interval": 0,  # 0 = never
    "ping_timeout": 20,  # 0 = however long
    "max_package_size": 10 * 1024 * 1024,  # bytes
    "max_send_buffer_size": 1024 * 1024,
    "kernel_send_buffer": 256 * 1024,  # 0 = the kernel's own tuning
    "max_json_size": 1024 * 1024,
}


OVERRIDDEN: Final = frozenset(
    {*DEFAULT_LIMITS, "proxy_protocol", "forwarded_allow_ips", "upload_dir"}
)
"""Worker arguments that settings of the same name override."""


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
    implied: object = (
        None  # what it comes to if nobody gives it, where the default does not say; or a function
    )

    @property
    def name(self) -> str:
        return self.flags[-1].removeprefix("--")

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    @property
    def is_limit(self) -> bool:
        return self.key in DEFAULT_LIMITS

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"GWORKER_{self.key.upper()}"

    def value(self, text: str) -> object:
        """The parsed value. Raises ValueError naming the text and what was expected."""
        if self.parse is None:
            raise ValueError("takes no value")
        try:
            return self.parse(text)
        except ValueError as error:
            raise ValueError(f"{text!r} is not valid, expected {error}") from None


# fmt: off
OPTIONS: Final = (
    Option(("-c", "--config"), path, None, "FILE", "read settings from "
                                                   "FILE", identity=True, file=False),
    Option(("-w", "--workers"), whole(1), None, "N", "processes per Worker that sets no "
                                                     "count (1)", implied=1),
    Option(("-b", "--bind"), url, (), "URL", "where handlers listen "
                                             "(http://127.0.0.1:8000)", repeat=True),
    Option(("-d", "--daemon"), None, False, "", "run in the background; return when workers are "
                                                "ready", restart=True),
    Option(("-n", "--name"), name, None, "NAME", "name of the instance (the "
                                                 "TARGET)", identity=True, restart=True),
    Option(("--pid",), path, None, "FILE", "a further pid file; commands find it by "
                                           "that", identity=True, restart=True),
    Option(
        ("--runtime-dir",), path, None, "DIR", "of pid files and control "
                                               "sockets", identity=True, restart=True,
        implied=lambda: default_runtime_dirs()[0],
    ),
    Option(("--chdir",), path, None, "DIR", "change to DIR before the target is "
                                            "loaded", restart=True),
    Option(("--umask",), octal, None, "MASK", "file mode mask of all processes, "
                                              "octal", restart=True),
    Option(("--user",), user, None, "USER", "run worker processes as USER, a name or an id"),
    Option(("--group",), group, None, "GROUP", "run worker processes as GROUP, a name or an id"),
    Option(("--env",), variable, (), "K=V", "set an environment variable for the "
                                            "target", repeat=True),
    Option(("--stdout-file",), path, None, "FILE", "append stdout and stderr to "
                                                   "FILE", restart=True),
    Option(("--log-file",), path, None, "FILE", "append the log to FILE (stderr; daemon: "
                                                "NAME.log)", restart=True),
    Option(("--log-level",), log_level, "info", "LEVEL", ", ".join(LOG_LEVELS) + " (info)"),
    Option(("--log-format",), log_format, "text", "FORMAT", ", ".join(LOG_FORMATS) + " (text)",
    restart=True),
    Option(("--access-log",), path_or_stdout, None, "FILE", "a line per exchange to FILE, - for "
                                                            "stdout", restart=True),
    Option(("--graceful-timeout",), seconds, 30.0, "S", "a retiring process may take S (30)"),
    Option(("--boot-timeout",), some_seconds, 60.0, "S", "a process must be ready within S (60)"),
    Option(("--timeout",), seconds, 60.0, "S", "replace a process whose loop hangs for S (60; 0: "
                                               "never)"),
    Option(
        ("--computing-processes",), whole(1), None, "N", "processes that gworker.computing may "
                                                         "use (processors)",
        implied=lambda: len(os.sched_getaffinity(0)),
    ),
    Option(("--max-requests",), whole(0), 0, "N", "recycle a process after N requests (0: never)"),
    Option(("--max-requests-jitter",), whole(0), 0, "N", "up to N requests more, drawn per "
                                                         "process (0)"),
    Option(("--max-memory",), size_or_none, 0, "SIZE", "recycle a process whose RSS stays above "
                                                       "SIZE (0: never)"),
    Option(("--max-age",), seconds, 0.0, "S", "recycle a process at most S old (0: never)"),
    Option(("--reload",), None, False, "", "reload when a source file changes (for "
                                           "development)", restart=True),
    Option(("--reload-extra",), path, (), "GLOB", "what --reload watches too, as "
                                                  "**/*.html", repeat=True, restart=True),
    Option(("--max-connections",), whole(0), None, "N", "per process (0: by file limit)"),
    Option(("--max-connections-per-address",), whole(0), None, "N", "per process and IP address "
                                                                    "(0: any number)"),
    Option(("--idle-timeout",), seconds, None, "S", "close a connection silent for S (0: never)"),
    Option(("--keep-alive",), seconds, None, "S", "until the next HTTP request (75; 0: any time)"),
    Option(("--header-timeout",), seconds, None, "S", "for a whole request head (10)"),
    Option(("--handshake-timeout",), seconds, None, "S", "for a TLS or WebSocket handshake (10)"),
    Option(("--message-timeout",), seconds, None, "S", "for the rest of a message that has begun "
                                                       "(0: any time)"),
    Option(("--send-timeout",), seconds, None, "S", "cut a peer that takes nothing for S (60; 0: "
                                                    "never)"),
    Option(("--close-timeout",), seconds, None, "S", "for a closing connection to flush (5; 0: "
                                                     "any time)"),
    Option(("--min-rate",), whole(0), None, "N", "bytes/s that slow peers must send or take "
                                                 "(240; 0: any)"),
    Option(("--ping-interval",), seconds, None, "S", "ask each WebSocket every S whether it is "
                                                     "alive (0: never)"),
    Option(("--ping-timeout",), seconds, None, "S", "close a WebSocket that has not answered "
                                                    "within S (20)"),
    Option(("--proxy-protocol",), None, None, "", "read the header of the PROXY "
                                                  "protocol", implied=False),
    Option(("--forwarded-allow-ips",), networks, (), "IPS", "proxies whose word on the client "
                                                            "counts", repeat=True),
    Option(("--max-package-size",), size, None, "SIZE", "of a message received (10MiB)"),
    Option(("--max-send-buffer-size",), size, None, "SIZE", "per connection (1MiB)"),
    Option(("--kernel-send-buffer",), size_or_none, None, "SIZE", "SO_SNDBUF of a connection "
                                                                  "(256KiB; 0: as it is)"),
    Option(("--max-json-size",), size, None, "SIZE", "of JSON that a request is parsed for (1MiB)"),
    Option(("--upload-dir",), path, None, "DIR", "where uploads are spooled (the temporary "
                                                 "directory)"),
)
# fmt: on


def default_runtime_dirs() -> tuple[str, ...]:
    """Where this user's instances have their runtime files, the first choice first.

    A command may run with another environment than the instance: under cron, sudo or ssh. So the
    list goes on with what does not depend on the environment. `runtime.prepare` makes the
    directories.
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
    import argparse

    for option in options:
        how: dict[str, Any] = {
            "dest": option.key,
            "default": argparse.SUPPRESS,
            "help": option.help,
        }
        if option.parse is None:
            how["action"] = "store_true"
        else:
            how["action"] = "append" if option.repeat else "store"
            how |= {"type": _argument(option), "metavar": option.metavar}
        parser.add_argument(*option.flags, **how)


def _argument(option: Option) -> Callable[[str], object]:
    """`option.value` with the error that argparse prints after the flag's name."""
    import argparse

    def parse(text: str) -> object:
        try:
            return option.value(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse
