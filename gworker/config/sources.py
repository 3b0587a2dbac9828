"""Where settings come from besides the command line: a TOML file and the environment.

`Sources` holds what a command was given and where it was run; its `read` makes the `Settings`. A
reload calls `reread`, which reads the file again and keeps the rest as it was at the start. The
commands for a running instance read only the few settings by which it is found, so that an error in
another one does not prevent a stop.

Every error is a ConfigError, which names the file or the variable, the key, and what was expected.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

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

# What Kubernetes and Docker set for a service with the name "gworker", names with two underscores,
# which other programs may use, and what chooses the core before any setting is read (gworker.core).
FOREIGN = re.compile(
    r"GWORKER_(_.*|PURE|REQUIRE_CORE"
    r"|SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

SWITCH: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def _current_directory() -> str:
    try:
        return directory.current()
    except FileNotFoundError:  # it was removed, and may be made again by the next release
        spelt = os.environ.get("PWD", "")
        return spelt if os.path.isabs(spelt) else os.sep


@dataclass(frozen=True, slots=True)
class Sources:
    """What one command was given. `read` reads the file again, and not the environment. Making one
    raises ConfigError for what is wrong there.

    directory: where the command was run; the file is searched there, whatever --chdir says.
    static: what the script itself sets (static_settings.py).
    """

    target: str | None
    command_line: Layer
    script: bool = False
    static: Layer | None = None
    environment: tuple[Layer, ...] = field(default_factory=lambda: environment_layers(os.environ))
    directory: str = field(default_factory=_current_directory)

    def read(self) -> Settings:
        """The effective settings. Raises ConfigError."""
        filename = self.file()
        static = () if self.static is None else (self.static,)
        file = () if filename is None else (file_layer(filename),)
        layers = (*static, *file, *self.environment, self.command_line)
        settings = resolve(self.target, *layers, script=self.script, directory=self.directory)
        return dataclasses.replace(settings, config=filename, read=self.read)

    def asked_file(self) -> str | None:
        """The file that the command line or the environment names."""
        layers = (self.command_line, *self.environment)
        return next(
            (str(each.values["config"]) for each in layers if "config" in each.values), None
        )

    def file(self) -> str | None:
        """The file that is asked for, else the one in the directory; None: there is none. Raises
        ConfigError."""
        if (asked := self.asked_file()) is not None:
            return asked
        for name in (FILE, PROJECT):
            filename = os.path.join(self.directory, name)
            if os.path.lexists(filename) and (name == FILE or read_table(filename) is not None):
                return filename
        return None


# ---- the environment


def environment_layers(
    environ: Mapping[str, str], only: Iterable[Option] = OPTIONS
) -> tuple[Layer, ...]:
    """One layer for each variable that is a setting.

    only: the options to read; with less than all of them, an unknown name is no error. Raises
    ConfigError for a bad value, or an unknown GWORKER_ name.
    """
    wanted = {option.variable for option in only}
    strict = wanted == BY_VARIABLE.keys()
    layers = []
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or FOREIGN.fullmatch(name):
            continue
        if name == TARGET_VARIABLE:
            if not text:
                raise ConfigError(
                    f"{name}: '' is not valid, expected module[:attr] or path/to/file.py[:attr]"
                )
            layers.append(Layer(name, {"target": text}))
        elif name in wanted:
            option = BY_VARIABLE[name]
            layers.append(Layer(name, {option.key: _parse(option, text, name)}))
        elif strict:
            raise ConfigError(
                f"{name}: no such setting{nearest(name, [*BY_VARIABLE, TARGET_VARIABLE])}"
            )
    return tuple(layers)


def is_setting(name: str) -> bool:
    """True for the environment variables that are settings of this instance only."""
    return name in BY_VARIABLE or name == TARGET_VARIABLE


def _parse(option: Option, text: str, where: str) -> object:
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


def look_up_instance(command_line: Layer) -> tuple[dict[str, Value], str]:
    """The settings by which an instance is found, and its target; and a note, or "".

    An error in a file that was found, not asked for, becomes the note. Raises ConfigError for any
    other.
    """
    options = {option.key: option for option in OPTIONS if option.identity}
    own = {key: value for key, value in command_line.values.items() if key in options}
    layer = Layer(command_line.origin, own)
    if "pid" in own or {"runtime_dir", "name"} <= own.keys():  # nothing else is needed
        return merge([layer]), ""
    environment = environment_layers(os.environ, options.values())
    given = Sources(None, layer, environment=environment)
    file, note = [], ""
    try:
        if (filename := given.file()) is not None:
            file = [file_layer(filename, options.values())]
    except ConfigError as error:
        if given.asked_file() is not None:
            raise
        note = f"{error}; going on without this file"
    return merge([*file, *environment, layer]), note


# ---- a reload


def reread(current: Settings) -> tuple[Settings, list[str]]:
    """The settings after reading the file again, and what has changed, in words.

    What only a restart can change stays as it is and is named in `pending`. Raises ConfigError, and
    the reload is refused.
    """
    if current.read is None:
        return current, []
    new = current.read()
    if current.config is not None and new.config is None:
        raise ConfigError(
            f"{current.config}: the settings read from it are gone; restart to go on without them"
        )
    fixed = {"target": "target", **{each.key: each.name for each in OPTIONS if each.restart}}
    kept = {
        key: getattr(current, key) for key in fixed if getattr(current, key) != getattr(new, key)
    }
    # A default name or log file is made from the target, and follows it.
    defaults = {
        key for key in ("name", "log_file") if current.origins[key] == new.origins[key] == "default"
    }
    pending = tuple(fixed[key] for key in kept if key not in defaults)
    origins = {**new.origins, **{key: current.origins[key] for key in kept}}
    new = dataclasses.replace(new, **kept, origins=origins, pending=pending)
    return new, changes(current, new)
