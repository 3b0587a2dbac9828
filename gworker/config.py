"""The options of the command line as one table, and the frozen `Settings` that a server is run with.

`OPTIONS` is the only list of options: the argparse parsers are built from it (`add_options`), and so is every
other layer of values (sources.py). A layer is where values come from, `Layer(origin, {option.key: parsed value})`,
with only what was given there; `merge` puts layers over the defaults, later wins, and remembers where each value
is from; `resolve` makes the `Settings`. Paths become absolute when parsed, that is before any --chdir.

This file reads the environment for defaults and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gworker.default_log import default_log
from gworker.errors import ConfigError
from gworker.values import (
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

    from gworker.sources import Sources

# The limits that a Worker argument may set as well. They are absent from `Settings.limits` unless given, so
# that who holds the Worker can keep the order "default < Worker argument < command line".
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


OVERRIDDEN: Final = frozenset({*DEFAULT_LIMITS, "proxy_protocol", "forwarded_allow_ips", "upload_dir"})
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
    implied: object = None  # what it comes to if nobody gives it, where the default does not say; or a function

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
    Option(("-c", "--config"), path, None, "FILE", "read settings from FILE", identity=True, file=False),
    Option(("-w", "--workers"), whole(1), None, "N", "processes per Worker that sets no count (1)", implied=1),
    Option(("-b", "--bind"), url, (), "URL", "where handlers listen (http://127.0.0.1:8000)", repeat=True),
    Option(("-d", "--daemon"), None, False, "", "run in the background; return when workers are ready", restart=True),
    Option(("-n", "--name"), name, None, "NAME", "name of the instance (the TARGET)", identity=True, restart=True),
    Option(("--pid",), path, None, "FILE", "a further pid file; commands find it by that", identity=True, restart=True),
    Option(
        ("--runtime-dir",), path, None, "DIR", "of pid files and control sockets", identity=True, restart=True,
        implied=lambda: default_runtime_dirs()[0],
    ),
    Option(("--chdir",), path, None, "DIR", "change to DIR before the target is loaded", restart=True),
    Option(("--umask",), octal, None, "MASK", "file mode mask of all processes, octal", restart=True),
    Option(("--user",), user, None, "USER", "run worker processes as USER, a name or an id"),
    Option(("--group",), group, None, "GROUP", "run worker processes as GROUP, a name or an id"),
    Option(("--env",), variable, (), "K=V", "set an environment variable for the target", repeat=True),
    Option(("--stdout-file",), path, None, "FILE", "append stdout and stderr to FILE", restart=True),
    Option(("--log-file",), path, None, "FILE", "append the log to FILE (stderr; daemon: NAME.log)", restart=True),
    Option(("--log-level",), log_level, "info", "LEVEL", ", ".join(LOG_LEVELS) + " (info)"),
    Option(("--log-format",), log_format, "text", "FORMAT", ", ".join(LOG_FORMATS) + " (text)", restart=True),
    Option(("--access-log",), path_or_stdout, None, "FILE", "a line per exchange to FILE, - for stdout", restart=True),
    Option(("--graceful-timeout",), seconds, 30.0, "S", "a retiring process may take S (30)"),
    Option(("--boot-timeout",), some_seconds, 60.0, "S", "a process must be ready within S (60)"),
    Option(("--timeout",), seconds, 60.0, "S", "replace a process whose loop hangs for S (60; 0: never)"),
    Option(
        ("--computing-processes",), whole(1), None, "N", "processes that gworker.computing may use (processors)",
        implied=lambda: len(os.sched_getaffinity(0)),
    ),
    Option(("--max-requests",), whole(0), 0, "N", "recycle a process after N requests (0: never)"),
    Option(("--max-requests-jitter",), whole(0), 0, "N", "up to N requests more, drawn per process (0)"),
    Option(("--max-memory",), size_or_none, 0, "SIZE", "recycle a process whose RSS stays above SIZE (0: never)"),
    Option(("--max-age",), seconds, 0.0, "S", "recycle a process at most S old (0: never)"),
    Option(("--reload",), None, False, "", "reload when a source file changes (for development)", restart=True),
    Option(("--reload-extra",), path, (), "GLOB", "what --reload watches too, as **/*.html", repeat=True, restart=True),
    Option(("--max-connections",), whole(0), None, "N", "per process (0: by file limit)"),
    Option(("--max-connections-per-address",), whole(0), None, "N", "per process and IP address (0: any number)"),
    Option(("--idle-timeout",), seconds, None, "S", "close a connection silent for S (0: never)"),
    Option(("--keep-alive",), seconds, None, "S", "until the next HTTP request (75; 0: any time)"),
    Option(("--header-timeout",), seconds, None, "S", "for a whole request head (10)"),
    Option(("--handshake-timeout",), seconds, None, "S", "for a TLS or WebSocket handshake (10)"),
    Option(("--message-timeout",), seconds, None, "S", "for the rest of a message that has begun (0: any time)"),
    Option(("--send-timeout",), seconds, None, "S", "cut a peer that takes nothing for S (60; 0: never)"),
    Option(("--close-timeout",), seconds, None, "S", "for a closing connection to flush (5; 0: any time)"),
    Option(("--min-rate",), whole(0), None, "N", "bytes/s that slow peers must send or take (240; 0: any)"),
    Option(("--ping-interval",), seconds, None, "S", "ask each WebSocket every S whether it is alive (0: never)"),
    Option(("--ping-timeout",), seconds, None, "S", "close a WebSocket that has not answered within S (20)"),
    Option(("--proxy-protocol",), None, None, "", "read the header of the PROXY protocol", implied=False),
    Option(("--forwarded-allow-ips",), networks, (), "IPS", "proxies whose word on the client counts", repeat=True),
    Option(("--max-package-size",), size, None, "SIZE", "of a message received (10MiB)"),
    Option(("--max-send-buffer-size",), size, None, "SIZE", "per connection (1MiB)"),
    Option(("--kernel-send-buffer",), size_or_none, None, "SIZE", "SO_SNDBUF of a connection (256KiB; 0: as it is)"),
    Option(("--max-json-size",), size, None, "SIZE", "of JSON that a request is parsed for (1MiB)"),
    Option(("--upload-dir",), path, None, "DIR", "where uploads are spooled (the temporary directory)"),
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server is run with. Absolute paths; None = not given; timeouts in seconds."""

    target: str | None
    name: str
    runtime_dir: str | None = None  # None: `default_runtime_dirs`
    script: bool = False  # load the target file as `__main__`
    config: str | None = None  # the file that settings were read from
    workers: int | None = None  # None: 1 where a Worker sets none
    bind: tuple[str, ...] = ()
    daemon: bool = False
    pid: str | None = None
    chdir: str | None = None
    umask: int | None = None
    user: str | None = None  # as given; values.user_id and values.group_id resolve it
    group: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    stdout_file: str | None = None
    log_file: str | None = None  # None: stderr
    log_level: str = "info"
    log_format: str = "text"
    access_log: str | None = None  # values.STDOUT: stdout
    graceful_timeout: float = 30.0
    boot_timeout: float = 60.0
    timeout: float = 60.0
    computing_processes: int | None = None  # None: as many as there are processors
    max_requests: int = 0
    max_requests_jitter: int = 0
    max_memory: int = 0
    max_age: float = 0.0
    reload: bool = False
    reload_extra: tuple[str, ...] = ()
    proxy_protocol: bool | None = None  # None: what the Worker says
    forwarded_allow_ips: tuple[str, ...] = ()
    upload_dir: str | None = None  # None: what the Worker says
    limits: Mapping[str, float | int] = field(default_factory=dict)  # those given, by DEFAULT_LIMITS key
    origins: Mapping[str, str] = field(default_factory=dict)  # where each value comes from, by Option.key
    of_workers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # what a file says of one Worker
    pending: tuple[str, ...] = ()  # options that a file has changed since, and that only a restart can change
    sources: Sources | None = None  # where to read them again; None: made by hand

    @property
    def has_default_log(self) -> bool:
        """True if the log is where that of a daemon is by default: nobody else takes care of it."""
        return self.daemon and self.origins.get("log_file") == "default"

    @property
    def runtime_dirs(self) -> tuple[str, ...]:
        """Where the runtime files may be, the first choice first."""
        return default_runtime_dirs() if self.runtime_dir is None else (self.runtime_dir,)

    @property
    def directory(self) -> str:
        """Where the target is loaded, by the name that leads to the release that is current."""
        return self.chdir or (self.sources.directory if self.sources is not None else os.getcwd())

    def limits_of(self, worker: str) -> dict[str, float | int]:
        """The limits that hold for this Worker, whatever its own arguments say."""
        own = self.of_workers.get(worker, {})
        return {**self.limits, **{key: own[key] for key in own if key in DEFAULT_LIMITS}}


class Layer(NamedTuple):
    """Values from one place: `origin` as it is shown to people, values by Option.key."""

    origin: str
    values: Mapping[str, object]


class Value(NamedTuple):
    value: object
    origin: str


BESIDES: Final = ("target", "target_base", "of_workers")
"""What a layer may hold that is no option. target_base: the directory from which its target is meant."""


def merge(layers: Iterable[Layer]) -> dict[str, Value]:
    """The effective value of every option and where it came from. Later layers win.

    Raises ConfigError for a key that is no option.
    """
    merged = {option.key: Value(option.default, "default") for option in OPTIONS}
    merged |= {key: Value(None, "default") for key in BESIDES}
    for origin, values in layers:
        for key, value in values.items():
            if key not in merged:
                raise ConfigError(f"{origin}: unknown setting {key!r}")
            merged[key] = Value(value, origin)
    return merged


def resolve(target: str | None, *layers: Layer, script: bool = False, directory: str = "") -> Settings:
    """The settings that these layers make for `target`, or for the target that one of them names.

    directory: where a target that is a file was meant; by default the current one.
    """
    given = () if target is None else (Layer("command line", {"target": target}),)
    merged = merge([*layers, *given])
    origins = {key: value.origin for key, value in merged.items()}
    values: dict[str, Any] = {key: value.value for key, value in merged.items()}
    found, base = values.pop("target"), values.pop("target_base")
    limits = {key: value for key in DEFAULT_LIMITS if (value := values.pop(key)) is not None}
    values["name"] = values["name"] or found or ""
    if values["daemon"] and values["log_file"] is None:
        values["log_file"] = default_log(values["name"])
    values["of_workers"] = _not_overridden(values["of_workers"] or {}, layers, origins)
    if found and base not in (None, directory) and origins["target"] == origins["target_base"]:
        target = _anchored(found, base, must_exist=False)
    else:
        target = _anchored(found, directory) if found and values["chdir"] else found
    return Settings(target=target, script=script, limits=limits, origins=origins, **values)


def _not_overridden(
    of_workers: Mapping[str, Mapping[str, Any]], layers: Sequence[Layer], origins: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """What is said of single Workers, without the limits that a layer above it sets for all of them."""
    names = [layer.origin for layer in layers]
    above = names[names.index(origins["of_workers"]) + 1 :] if origins["of_workers"] in names else []
    return {
        name: {key: own[key] for key in own if key not in OVERRIDDEN or origins[key] not in above}
        for name, own in of_workers.items()
    }


def _anchored(target: str, directory: str, must_exist: bool = True) -> str:
    """A target that is a file in `directory` stays this file wherever it is loaded; a module is looked up there."""
    filename, colon, attribute = target.partition(".py:") if ".py:" in target else (target, "", "")
    filename = os.path.join(directory, filename + (".py" if colon else ""))
    if not filename.endswith(".py") or (must_exist and not os.path.exists(filename)):
        return target
    return os.path.abspath(filename) + (f":{attribute}" if colon else "")


def default_runtime_dirs() -> tuple[str, ...]:
    """Where this user's instances have their runtime files, the first choice first.

    A command may run with another environment than the instance: under cron, sudo or ssh. So the list goes on with
    what does not depend on the environment. `runtime.prepare` makes the directories.
    """
    uid, environ = os.geteuid(), os.environ
    temporary = [os.path.join(each, f"gworker-{uid}") for each in (environ.get("TMPDIR", ""), "/tmp", "/var/tmp")]
    if uid == 0:  # XDG_RUNTIME_DIR may be another user's: sudo can keep it
        named = ["/run/gworker", *temporary]
    else:
        users = os.path.join(environ.get("XDG_RUNTIME_DIR", ""), "gworker")
        named = [users, *temporary, f"/run/user/{uid}/gworker", "/run/gworker"]
    return tuple(dict.fromkeys(filter(os.path.isabs, named)))


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option] = OPTIONS) -> None:
    """Give `parser` these options. Those not given on the command line stay out of the namespace."""
    import argparse

    for option in options:
        how: dict[str, Any] = {"dest": option.key, "default": argparse.SUPPRESS, "help": option.help}
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


def command_line(namespace: argparse.Namespace) -> Layer:
    """The layer of the options found in a parsed command line."""
    given = vars(namespace)
    values = {option.key: given[option.key] for option in OPTIONS if option.key in given}
    return Layer("command line", {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
