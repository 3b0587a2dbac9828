"""The frozen `Settings` that a server is run with, and how they come from layers of values.

A layer is where values come from, `Layer(origin, {option.key: parsed value})`, with only what was
given there; `merge` puts layers over the defaults, later wins, and remembers where each value is
from; `resolve` makes the `Settings`.

This file reads the environment for defaults and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from gworker.config.default_log import default_log
from gworker.config.options import DEFAULT_LIMITS, OPTIONS, OVERRIDDEN, default_runtime_dirs
from gworker.errors import ConfigError

if TYPE_CHECKING:
    import argparse


class Source(Protocol):
    """Where settings come from, and can be read again (sources.Sources)."""

    @property
    def directory(self) -> str:
        """The directory in which the command was given."""

    def read(self) -> Settings:
        """The settings as they stand there now. Raises ConfigError."""


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
    limits: Mapping[str, float | int] = field(
        default_factory=dict
    )  # those given, by DEFAULT_LIMITS key
    origins: Mapping[str, str] = field(
        default_factory=dict
    )  # where each value comes from, by Option.key
    of_workers: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # what a file says of one Worker
    pending: tuple[
        str, ...
    ] = ()  # options that a file has changed since, and that only a restart can change
    sources: Source | None = None  # where to read them again; None: made by hand

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
"""What a layer may hold that is no option. target_base: the directory from which its target is
meant."""


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


def resolve(
    target: str | None, *layers: Layer, script: bool = False, directory: str = ""
) -> Settings:
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
    """What is said of single Workers, without the limits that a layer above it sets for all of
    them."""
    names = [layer.origin for layer in layers]
    above = (
        names[names.index(origins["of_workers"]) + 1 :] if origins["of_workers"] in names else []
    )
    return {
        name: {key: own[key] for key in own if key not in OVERRIDDEN or origins[key] not in above}
        for name, own in of_workers.items()
    }


def _anchored(target: str, directory: str, must_exist: bool = True) -> str:
    """A target that is a file in `directory` stays this file wherever it is loaded; a module is
    looked up there."""
    filename, colon, attribute = target.partition(".py:") if ".py:" in target else (target, "", "")
    filename = os.path.join(directory, filename + (".py" if colon else ""))
    if not filename.endswith(".py") or (must_exist and not os.path.exists(filename)):
        return target
    return os.path.abspath(filename) + (f":{attribute}" if colon else "")


def command_line(namespace: argparse.Namespace) -> Layer:
    """The layer of the options found in a parsed command line."""
    given = vars(namespace)
    values = {option.key: given[option.key] for option in OPTIONS if option.key in given}
    return Layer(
        "command line", {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    )
