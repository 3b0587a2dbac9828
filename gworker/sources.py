"""Where settings come from besides the command line: a TOML file and the environment.

`Sources` remembers what a command was given and where it was run, and `read` makes the `Settings` of it; a reload
calls `renew`, which reads the file again and keeps everything else as it was at the start. The commands of a running
instance read only the few settings by which it is found, so that a mistake elsewhere keeps nobody from stopping it.

Everything wrong raises ConfigError, which names the file or the variable, the key, and what was expected.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gworker.config import DEFAULT_LIMITS, OPTIONS, Layer, Option, Settings, Value, merge, resolve
from gworker.effective import changes
from gworker.errors import ConfigError
from gworker.values import group, path, url, user, variable, whole

FILE, PROJECT = "gworker.toml", "pyproject.toml"
MAX_FILE = 1 << 20
"""Bytes of a file of settings: a reload parses it between two turns of the arbiter."""

MAX_SHOWN = 100
"""Characters of a bad value that an error shows."""

PREFIX = "GWORKER_"

BY_KEY: Final = {option.key: option for option in OPTIONS}
BY_VARIABLE: Final = {option.variable: option for option in OPTIONS}
TARGET_VARIABLE = PREFIX + "TARGET"

# What Kubernetes and Docker put into the environment for a service that is called "gworker", and names with two
# underscores, which are left to other programs.
FOREIGN = re.compile(r"GWORKER_(_.*|SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")

SWITCH: Final = {**dict.fromkeys(("1", "true", "yes", "on"), True), **dict.fromkeys(("0", "false", "no", "off"), False)}

WORKER_KEYS: Final[Mapping[str, Callable[[str], object] | None]] = {
    "listen": url,
    "count": whole(1),
    "user": user,
    "group": group,
    "reloadable": None,
    "reuse_port": None,
    "backlog": whole(1),
    **{key: BY_KEY[key].parse for key in DEFAULT_LIMITS},
}
"""What a `[worker.NAME]` table may hold, by the name of the Worker argument. None: a boolean."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What one command was given. The environment is as it was at the start; only the file is read again."""

    target: str | None
    command_line: Layer
    environment: tuple[Layer, ...]
    directory: str
    """Where the command was run: the file is looked for there, whatever --chdir says."""
    script: bool = False

    def read(self) -> Settings:
        """The effective settings. Raises ConfigError."""
        filename = self.file()
        below = () if filename is None else (file_layer(filename, self.directory),)
        layers = (*below, *self.environment, self.command_line)
        settings = resolve(self.target, *layers, script=self.script, directory=self.directory)
        return dataclasses.replace(settings, config=filename, sources=self)

    def asked_file(self) -> str | None:
        """The file that the command line or the environment names."""
        for layer in (self.command_line, *self.environment):
            if "config" in layer.values:
                return str(layer.values["config"])
        return None

    def file(self) -> str | None:
        """The file that is asked for, else the one that is found; None: there is none. Raises ConfigError."""
        if (asked := self.asked_file()) is not None:
            return asked
        for name in (FILE, PROJECT):
            filename = os.path.join(self.directory, name)
            if os.path.lexists(filename) and (name == FILE or _table(filename) is not None):
                return filename
        return None


def sources(target: str | None, command_line: Layer, script: bool = False) -> Sources:
    """What this command was given. Raises ConfigError for what is wrong in the environment."""
    return Sources(target, command_line, environment_layers(os.environ), _current_directory(), script)


def _current_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed; then there is no file in it either
        return os.sep


# ---- the environment


def environment_layers(environ: Mapping[str, str], only: Iterable[Option] = OPTIONS) -> tuple[Layer, ...]:
    """One layer for each variable that is a setting. With fewer options than all, others are not looked at.

    Raises ConfigError for an unknown GWORKER_ name or a bad value.
    """
    wanted = {option.variable for option in only}
    strict = wanted == BY_VARIABLE.keys()
    layers = []
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or FOREIGN.fullmatch(name):
            continue
        if name == TARGET_VARIABLE:
            layers.append(Layer(name, {"target": text}))
        elif name in wanted:
            layers.append(Layer(name, {BY_VARIABLE[name].key: _of_text(BY_VARIABLE[name], text, name)}))
        elif strict:
            raise ConfigError(f"{name}: no such setting{nearest(name, [*BY_VARIABLE, TARGET_VARIABLE])}")
    return tuple(layers)


def is_setting(name: str) -> bool:
    """True for the environment variables that are settings of an instance, and of nothing that it starts."""
    return name in BY_VARIABLE or name == TARGET_VARIABLE


def _of_text(option: Option, text: str, where: str) -> object:
    if option.parse is None:
        if text.lower() not in SWITCH:
            raise ConfigError(f"{where}: {text!r} is not valid, expected one of {', '.join(SWITCH)}")
        return SWITCH[text.lower()]
    try:
        if option.repeat:
            return tuple(option.value(part) for part in re.split(r"[\s,]+", text) if part)
        return option.value(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


# ---- the file


def file_layer(filename: str, directory: str, only: Iterable[Option] = OPTIONS) -> Layer:
    """The settings in `filename`. Relative paths in it start from its directory. Raises ConfigError.

    directory: where the command was run. With fewer options than all, others are not looked at.
    """
    table = _table(filename)
    if table is None:
        raise ConfigError(f"{filename}: there is no table [tool.gworker]")
    where = f"{filename} [tool.gworker]" if os.path.basename(filename) == PROJECT else filename
    base = os.path.dirname(os.path.abspath(filename))
    wanted = {option.key for option in only}
    strict = wanted == BY_KEY.keys()
    values: dict[str, object] = {}
    for key, value in table.items():
        known = key.replace("-", "_")
        if known in values or (known == "worker" and "of_workers" in values):
            raise ConfigError(f"{where}: {key} is given twice, with - and with _")
        if known == "target":
            values["target"] = _target(value, base, directory, where)
        elif known == "worker" and strict:
            values["of_workers"] = _of_workers(value, where)
        elif known in wanted and BY_KEY[known].file:
            values[known] = _of_toml(BY_KEY[known], value, base, f"{where}: {key}")
        elif strict:
            names = [option.name for option in OPTIONS if option.file]
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, [*names, 'target', 'worker'])}")
    return Layer(where, values)


def _table(filename: str) -> dict[str, Any] | None:
    """The settings in a file; those of a pyproject.toml are in [tool.gworker], if there is one. Raises ConfigError."""
    data = _content(filename)
    is_project = os.path.basename(filename) == PROJECT
    if is_project and b"gworker" not in data:
        return None
    import tomllib

    try:
        found: Any = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{filename}: invalid TOML: not UTF-8 (at line {line})") from None
    except (ValueError, RecursionError) as error:  # ValueError also for an integer of thousands of digits
        raise ConfigError(f"{filename}: invalid TOML: {error}") from None
    for key in ("tool", "gworker") if is_project else ():
        found = found.get(key, {}) if key == "tool" else found.get(key)
        if found is not None and not isinstance(found, dict):
            raise ConfigError(f"{filename}: {key} = {_shown(found)} is not valid, expected a table")
    table: dict[str, Any] | None = found
    return table


def _content(filename: str) -> bytes:
    """What is in a file; never waits, as a named pipe would make us."""
    try:
        fd = os.open(filename, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ConfigError(f"cannot read {filename}: it is no regular file, and a reload has to read it again")
        with open(fd, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {filename}: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise ConfigError(f"cannot read {filename}: it is larger than {MAX_FILE >> 20} MiB")
    return data


def _target(value: object, base: str, directory: str, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(
            f"{where}: target = {_shown(value)} is not valid, expected module[:attr] or path/to/file.py[:attr]"
        )
    source = value.partition(":")[0]
    is_file = source.endswith(".py") or os.sep in source
    return os.path.join(base, value) if is_file and base != directory else value


def _of_toml(option: Option, value: object, base: str, where: str) -> object:
    """The value of an option, from what TOML makes of it. `where` names the file and the key."""

    def parse(text: str) -> object:
        return option.value(os.path.join(base, text) if option.parse is path and text else text)

    if option.parse is None:
        return _boolean(value, where)
    if option.parse is variable and isinstance(value, dict):
        return tuple(_variable(name, item, where) for name, item in value.items())
    if not option.repeat:
        return _scalar(parse, value, where)
    items = value if isinstance(value, list) else [value]
    return tuple(_scalar(parse, item, where) for item in items)


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{where} = {_shown(value)} is not valid, expected true or false")
    return value


def _variable(name: str, value: object, where: str) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ConfigError(f"{where}.{name} = {_shown(value)} is not valid, expected a string")
    return _scalar(variable, f"{name}={value}", where)


def _scalar(parse: Callable[[str], object], value: object, where: str) -> object:
    """A string is what one would type on the command line; a number stands for itself.

    So a umask, which is octal, has to be a string, and so has a name, whatever digits it is made of.
    """

    def fault(expected: str) -> ConfigError:
        return ConfigError(f"{where} = {_shown(value)} is not valid, expected {expected}")

    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 63
    try:
        # What is neither is given to the parser as a text that it refuses, to hear what it expects.
        parsed = parse(str(value) if isinstance(value, str) or is_number else "\0")
    except ValueError as error:
        raise fault(str(error).partition(" is not valid, expected ")[2]) from None
    if isinstance(value, str) or (is_number and not isinstance(parsed, str) and parsed == value):
        return parsed
    raise fault(f'a string, as in "{value}"' if is_number else "a string")


def _shown(value: object) -> str:
    """A value as TOML writes it, roughly, and not too much of it."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a number"
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + " …"


def _of_workers(value: object, where: str) -> dict[str, dict[str, object]]:
    """The tables [worker.NAME]."""
    if not isinstance(value, dict) or not all(isinstance(own, dict) for own in value.values()):
        raise ConfigError(f"{where}: worker: expected tables [worker.NAME]")
    return {name: _of_worker(own, f"{where} [worker.{name}]") for name, own in value.items()}


def _of_worker(table: Mapping[str, object], where: str) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in table.items():
        known = key.replace("-", "_")
        if known not in WORKER_KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, WORKER_KEYS)}")
        if known in values:
            raise ConfigError(f"{where}: {key} is given twice, with - and with _")
        parse = WORKER_KEYS[known]
        if parse is None:
            values[known] = _boolean(value, f"{where}: {key}")
        else:
            option = Option((f"--{known}",), parse, None, "", "")
            values[known] = _scalar(option.value, value, f"{where}: {key}")
    return values


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or what there is if nothing is near."""
    import difflib

    names = {each.replace("-", "_").lower(): each for each in known}
    found = difflib.get_close_matches(name.replace("-", "_").lower(), names, n=1, cutoff=0.5)
    return f"; did you mean {names[found[0]]}?" if found else f"; there are {', '.join(sorted(names.values()))}"


# ---- which instance


class Identity(NamedTuple):
    """What a command was told of the instance that it is for; with notes about what could not be read."""

    values: dict[str, Value]
    notes: list[str]


def identity(command_line: Layer) -> Identity:
    """The settings by which an instance is found, and its target.

    A file that was only found, not asked for, may be wrong: a note tells so. Raises ConfigError for all else.
    """
    options = [option for option in OPTIONS if option.identity]
    own = {option.key: command_line.values[option.key] for option in options if option.key in command_line.values}
    if "pid" in own or {"runtime_dir", "name"} <= own.keys():
        return Identity(merge([Layer(command_line.origin, own)]), [])  # that says it all
    environment = environment_layers(os.environ, options)
    given = Sources(None, Layer(command_line.origin, own), environment, _current_directory())
    below: list[Layer] = []
    notes: list[str] = []
    try:
        if (filename := given.file()) is not None:
            below.append(file_layer(filename, given.directory, options))
    except ConfigError as error:
        if given.asked_file() is not None:
            raise
        notes.append(f"{error}; going on without this file")
    return Identity(merge([*below, *environment, given.command_line]), notes)


# ---- a reload


def renew(current: Settings) -> tuple[Settings, list[str]]:
    """The settings after reading the file again, and what has changed, in words.

    What only a restart can change stays as it is and is named in `pending`. Raises ConfigError: the reload is refused.
    """
    if current.sources is None:
        return current, []
    if current.config is not None and not os.path.lexists(current.config):
        raise ConfigError(f"cannot read {current.config}, from which settings came at the start: it is gone")
    new = current.sources.read()
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
    """True for a name that nobody gives: it is the target's."""
    return option.key == "name" and current.origins["name"] == new.origins["name"] == "default"
