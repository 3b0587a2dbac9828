"""Where settings come from besides the command line: a TOML file and the environment.

`Sources` remembers what a command was given and where it was run, and `read` makes the `Settings`
of it; a reload calls `renew`, which reads the file again and keeps everything else as it was at the
start. The commands of a running instance read only the few settings by which it is found, so that a
mistake elsewhere keeps nobody from stopping it.

Everything wrong raises ConfigError, which names the file or the variable, the key, and what was
expected.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from gworker.config.options import OPTIONS, Option
from gworker.config.parsers import nearest
from gworker.config.report import changes
from gworker.config.settings import Layer, Settings, Value, merge, resolve
from gworker.config.toml_file import PROJECT, file_layer, read_table
from gworker.errors import ConfigError
from gworker.system import directory

FILE = "gworker.toml"
PREFIX = "GWORKER_"

BY_VARIABLE: Final = {option.variable: option for option in OPTIONS}
TARGET_VARIABLE = PREFIX + "TARGET"

# What Kubernetes and Docker put into the environment for a service that is called "gworker", and
# names with two underscores, which are left to other programs.
FOREIGN = re.compile(
    r"GWORKER_(_.*|SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

SWITCH: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


@dataclass(frozen=True, slots=True)
class Sources:
    """What one command was given. The environment is as it was at the start; only the file is read
    again."""

    target: str | None
    command_line: Layer
    environment: tuple[Layer, ...]
    directory: str
    """Where the command was run: the file is looked for there, whatever --chdir says."""
    script: bool = False
    static: Layer | None = None
    """What the script itself says (static_settings.py)."""

    def read(self) -> Settings:
        """The effective settings. Raises ConfigError."""
        filename = self.file()
        static = () if self.static is None else (self.static,)
        file = () if filename is None else (file_layer(filename),)
        layers = (*static, *file, *self.environment, self.command_line)
        settings = resolve(self.target, *layers, script=self.script, directory=self.directory)
        return dataclasses.replace(settings, config=filename, sources=self)

    def asked_file(self) -> str | None:
        """The file that the command line or the environment names."""
        for layer in (self.command_line, *self.environment):
            if "config" in layer.values:
                return str(layer.values["config"])
        return None

    def file(self) -> str | None:
        """The file that is asked for, else the one that is found; None: there is none. Raises
        ConfigError."""
        if (asked := self.asked_file()) is not None:
            return asked
        for name in (FILE, PROJECT):
            filename = os.path.join(self.directory, name)
            if os.path.lexists(filename) and (name == FILE or read_table(filename) is not None):
                return filename
        return None


def sources(
    target: str | None, command_line: Layer, script: bool = False, static: Layer | None = None
) -> Sources:
    """What this command was given. Raises ConfigError for what is wrong in the environment."""
    return Sources(
        target, command_line, environment_layers(os.environ), _current_directory(), script, static
    )


def _current_directory() -> str:
    try:
        return directory.current()
    except FileNotFoundError:  # it was removed, and may be made again by the next release
        spelt = os.environ.get("PWD", "")
        return spelt if os.path.isabs(spelt) else os.sep


# ---- the environment


def environment_layers(
    environ: Mapping[str, str], only: Iterable[Option] = OPTIONS
) -> tuple[Layer, ...]:
    """One layer for each variable that is a setting. With fewer options than all, others are not
    looked at.

    Raises ConfigError for an unknown GWORKER_ name or a bad value.
    """
    wanted = {option.variable for option in only}
    strict = wanted == BY_VARIABLE.keys()
    layers = []
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or FOREIGN.fullmatch(name):
            continue
        if name == TARGET_VARIABLE and not text:
            raise ConfigError(
                f"{name}: '' is not valid, expected module[:attr] or path/to/file.py[:attr]"
            )
        if name == TARGET_VARIABLE:
            layers.append(Layer(name, {"target": text}))
        elif name in wanted:
            layers.append(
                Layer(name, {BY_VARIABLE[name].key: _of_text(BY_VARIABLE[name], text, name)})
            )
        elif strict:
            raise ConfigError(
                f"{name}: no such setting{nearest(name, [*BY_VARIABLE, TARGET_VARIABLE])}"
            )
    return tuple(layers)


def is_setting(name: str) -> bool:
    """True for the environment variables that are settings of an instance, and of nothing that it
    starts."""
    return name in BY_VARIABLE or name == TARGET_VARIABLE


def _of_text(option: Option, text: str, where: str) -> object:
    if option.parse is None:
        if text.lower() not in SWITCH:
            raise ConfigError(
                f"{where}: {text!r} is not valid, expected one of {', '.join(SWITCH)}"
            )
        return SWITCH[text.lower()]
    try:
        if option.repeat:
            return tuple(option.value(part) for part in re.split(r"[\s,]+", text) if part)
        return option.value(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


# ---- which instance


class Identity(NamedTuple):
    """What a command was told of the instance that it is for; with notes about what could not be
    read."""

    values: dict[str, Value]
    notes: list[str]


def identity(command_line: Layer) -> Identity:
    """The settings by which an instance is found, and its target.

    A file that was only found, not asked for, may be wrong: a note tells so. Raises ConfigError for
    all else.
    """
    options = [option for option in OPTIONS if option.identity]
    own = {
        option.key: command_line.values[option.key]
        for option in options
        if option.key in command_line.values
    }
    if "pid" in own or {"runtime_dir", "name"} <= own.keys():
        return Identity(merge([Layer(command_line.origin, own)]), [])  # that says it all
    environment = environment_layers(os.environ, options)
    given = Sources(None, Layer(command_line.origin, own), environment, _current_directory())
    below: list[Layer] = []
    notes: list[str] = []
    try:
        if (filename := given.file()) is not None:
            below.append(file_layer(filename, options))
    except ConfigError as error:
        if given.asked_file() is not None:
            raise
        notes.append(f"{error}; going on without this file")
    return Identity(merge([*below, *environment, given.command_line]), notes)


# ---- a reload


def renew(current: Settings) -> tuple[Settings, list[str]]:
    """The settings after reading the file again, and what has changed, in words.

    What only a restart can change stays as it is and is named in `pending`. Raises ConfigError: the
    reload is refused.
    """
    if current.sources is None:
        return current, []
    new = current.sources.read()
    if current.config is not None and new.config is None:
        raise ConfigError(
            f"{current.config}: the settings read from it are gone; restart to go on without them"
        )
    held = [option for option in OPTIONS if option.restart and _differs(option.key, current, new)]
    keys = [option.key for option in held]
    names = [option.name for option in held if not _is_implied(option, current, new)]
    if new.target != current.target:
        names, keys = ["target", *names], ["target", *keys]
    kept = {key: getattr(current, key) for key in keys}
    origins = {**new.origins, **{key: current.origins[key] for key in keys}}
    new = dataclasses.replace(new, **kept, origins=origins, pending=tuple(names))
    return new, changes(current, new)


def _differs(key: str, current: Settings, new: Settings) -> bool:
    return bool(getattr(current, key) != getattr(new, key))


def _is_implied(option: Option, current: Settings, new: Settings) -> bool:
    """True for a name, or the file of a log, that nobody gives: it is by the target."""
    is_by_target = option.key in ("name", "log_file")
    return is_by_target and current.origins[option.key] == new.origins[option.key] == "default"
