"""Settings that a script gives by attributes of the class Worker: `Worker.daemonize = True`.

They hold for `python start.py …` only: `Worker.run_all()` hands them to the command, as the lowest
layer of its settings, below a file, the environment and the command line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from gworker.app.attribute_names import meant
from gworker.app.callbacks import CALLBACKS
from gworker.app.options import boolean
from gworker.config.parsers import path
from gworker.errors import ConfigError

# The attribute of Worker, and the setting that it is: `Option.key`.
STATIC: Final[Mapping[str, str]] = {
    "daemonize": "daemon",
    "stdout_file": "stdout_file",
    "log_file": "log_file",
    "pid_file": "pid",
}

# What else can be set so in Workerman, and what there is in its place.
ELSEWHERE: Final[Mapping[str, str]] = {
    "stop_timeout": "the setting graceful-timeout",
    "event_loop_class": "no choice: the loop is gevent's",
    "status_file": "no such file: `gworker status` asks the instance",
    "log_file_max_size": "logrotate(8) and the signal USR1",
}

given: dict[str, bool | str] = {}  # what was set in this process

_is_script = [True]  # whether the code that is running is a script's


def begin_load(script: bool) -> None:
    """The target is loaded in this process. script: by `python start.py`, so its settings hold."""
    _is_script[0] = script


def hint(name: str) -> str:
    if word := meant(name, STATIC):
        return f"did you mean Worker.{word}?"
    if word := meant(name, ELSEWHERE):
        return f"there is {ELSEWHERE[word]}"
    return f"there are {', '.join(STATIC)}, in a script that ends in Worker.run_all()"


def set_static(name: str, value: Any) -> None:
    """`Worker.NAME = value`. Raises ConfigError for a bad value, and where it would not hold."""
    if not _is_script[0]:
        setting = STATIC[name].replace("_", "-")
        raise ConfigError(
            f"Worker.{name} holds in a script that ends in Worker.run_all(), and this target is "
            "loaded by a"
            f" command: use --{setting}, or {setting} in gworker.toml"
        )
    if value is None:
        given.pop(name, None)
        return
    try:
        given[name] = boolean(value) if name == "daemonize" else path(os.fspath(value))
    except (TypeError, ValueError) as error:
        expected = error if name == "daemonize" else "a path"
        raise ConfigError(f"Worker.{name} = {value!r} is not valid, expected {expected}") from None


def as_argument() -> str:
    return json.dumps(given)


def from_argument(argument: str) -> dict[str, bool | str]:
    """The settings in an argument of `as_argument`, by `Option.key`."""
    return {STATIC[name]: value for name, value in json.loads(argument).items()}


class WithStaticSettings(type):
    """The type of Worker: a script's settings are attributes of the class."""

    def __setattr__(cls, name: str, value: object) -> None:
        if name in STATIC:
            set_static(name, value)
            return
        if not name.startswith("_"):
            if word := meant(name, CALLBACKS):
                raise AttributeError(
                    f"callbacks belong to one Worker, not to all: worker.{word} = …"
                )
            is_worker_itself = cls.__mro__[1] is object  # a subclass may have more
            if not hasattr(cls, name) and (is_worker_itself or meant(name, STATIC)):
                raise AttributeError(f"Worker has no setting {name!r}; {hint(name)}")
        super().__setattr__(name, value)

    def __getattr__(cls, name: str) -> Any:
        if name in STATIC:
            return given.get(name)
        raise AttributeError(f"Worker has no attribute {name!r}; {hint(name)}")
