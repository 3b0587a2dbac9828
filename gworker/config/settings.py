"""The frozen `Settings` that a server is run with, and how they come from layers of values.

A layer is `Layer(origin, {option.key: parsed value})`, with only what was given there. `merge` puts
layers over the defaults, and remembers where each value is from; `resolve` makes the `Settings`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gworker.broker.url import BrokerUrl
from gworker.config.access_format import AccessFormat
from gworker.config.file_names import default_log
from gworker.config.options import DEFAULT_LIMITS, OPTIONS, default_runtime_dirs
from gworker.config.secret_keys import SecretKey


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server is run with. Absolute paths; None = not given; timeouts in seconds.

    The first fields are those of `OPTIONS`, by `Option.key`. `resolve` makes one.
    """

    name: str
    runtime_dir: str | None  # None: `default_runtime_dirs`
    config: str | None  # the file that settings were read from
    workers: int | None  # None: 1 where a Worker sets none
    bind: tuple[str, ...]
    app: str | None  # "wsgi" or "handler", what a callable target is; None: by inspection
    root_path: str
    daemon: bool
    pid: str | None
    chdir: str | None
    umask: int | None
    user: str | None  # a name or a number
    group: str | None
    env: tuple[tuple[str, str], ...]
    stdout_file: str | None
    log_file: str | None  # None: stderr
    log_level: str
    log_format: str
    access_log: str | None  # parsers.STDOUT: stdout
    access_log_format: AccessFormat | None  # None: combined, or what --log-format says
    broker: BrokerUrl
    cluster_name: str | None
    broker_mode: int
    broker_group: str | None
    graceful_timeout: float
    boot_timeout: float
    timeout: float
    computing_processes: int | None  # None: as many as there are processors
    max_requests: int
    max_requests_jitter: int
    max_memory: int
    max_age: float
    preload: bool
    reload: bool
    reload_extra: tuple[str, ...]
    proxy_protocol: bool | None  # None: what the Worker says
    forwarded_allow_ips: tuple[str, ...]
    secret_key: tuple[SecretKey, ...]
    upload_dir: str | None  # None: what the Worker says

    target: str | None
    script: bool  # load the target file as `__main__`
    limits: Mapping[str, float]  # those that are given, by `Option.key`
    of_workers: Mapping[str, Mapping[str, Any]]  # what a file says of one Worker
    origins: Mapping[str, str]  # where each value comes from, by `Option.key`
    working_directory: str  # in which the command was given
    pending: tuple[str, ...] = ()  # changed in a file since, and only a restart can apply it
    # As they stand now where these come from; raises ConfigError. None: they come from nowhere.
    read: Callable[[], Settings] | None = field(default=None, compare=False)

    @property
    def has_default_log(self) -> bool:
        """True if the log is where that of a daemon is by default: nothing else turns it over."""
        return self.daemon and self.origins.get("log_file") == "default"

    @property
    def runtime_dirs(self) -> tuple[str, ...]:
        """Where the runtime files may be, the first choice first."""
        return default_runtime_dirs() if self.runtime_dir is None else (self.runtime_dir,)

    @property
    def directory(self) -> str:
        """Where the target is loaded, by the name that leads to the release that is current."""
        return self.chdir or self.working_directory

    def limits_of(self, worker: str) -> dict[str, float]:
        """The limits that hold for this Worker, whatever its own arguments say."""
        own = self.of_workers.get(worker, {})
        return {**self.limits, **{key: own[key] for key in own if key in DEFAULT_LIMITS}}


class Layer(NamedTuple):
    """Values from one place: `origin` as it is shown to people, values by Option.key."""

    origin: str
    values: Mapping[str, object]


class Value(NamedTuple):
    """A value in force, and its origin."""

    value: Any
    origin: str


# Worker arguments that settings of the same name override.
OVERRIDDEN: Final = {
    *DEFAULT_LIMITS,
    "proxy_protocol",
    "forwarded_allow_ips",
    "upload_dir",
    "root_path",
    "access_log_format",
}


def merge(layers: Iterable[Layer]) -> dict[str, Value]:
    """The effective value of every option and where it came from. Later layers win.

    A limit that no layer gives is None, so that a Worker's own argument holds.
    """
    merged = {each.key: Value(None if each.limit else each.default, "default") for each in OPTIONS}
    # What a layer may hold that is no option. target_base: from where its target is looked for.
    merged |= dict.fromkeys(("target", "target_base", "of_workers"), Value(None, "default"))
    for origin, values in layers:
        merged |= {key: Value(value, origin) for key, value in values.items()}
    return merged


def resolve(
    target: str | None, *layers: Layer, script: bool = False, directory: str = ""
) -> Settings:
    """The settings that these layers make for `target`, or for the target that one of them names.

    directory: from which a target that is a file starts; by default the current one.
    """
    given = () if target is None else (Layer("command line", {"target": target}),)
    merged = merge([*layers, *given])
    origins = {key: value.origin for key, value in merged.items()}
    values = {key: value.value for key, value in merged.items()}
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
    return Settings(
        target=target,
        script=script,
        limits=limits,
        origins=origins,
        working_directory=directory or os.getcwd(),
        **values,
    )


def _not_overridden(
    of_workers: Mapping[str, Mapping[str, Any]], layers: Sequence[Layer], origins: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    # What a file says of single Workers, without what a higher layer sets for all of them.
    names = [layer.origin for layer in layers]
    file = origins["of_workers"]
    above = names[names.index(file) + 1 :] if file in names else []
    return {
        name: {key: own[key] for key in own if key not in OVERRIDDEN or origins[key] not in above}
        for name, own in of_workers.items()
    }


def _anchored(target: str, directory: str, must_exist: bool = True) -> str:
    # A target that is a file in `directory`, as an absolute path; a module as it is.
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
