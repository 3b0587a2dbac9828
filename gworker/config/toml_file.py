"""A file of settings: TOML, whose keys are the options' names with - or _.

    target = "chat:app"                 what to serve
    workers = 4                         any option that may stand in a file
    env = {MODE = "test"}               or a list of "K=V"
    [worker.chat]                       Worker arguments of one Worker
    count = 2

A pyproject.toml holds the same in its table [tool.gworker]. `file_layer` reads one and checks all
of it. Every error is a ConfigError, which names the file, the key, and what was expected.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from gworker.config.access_format import access_format
from gworker.config.options import DEFAULT_LIMITS, OPTIONS, Option
from gworker.config.parsers import (
    automatic,
    group,
    mode,
    nearest,
    networks,
    path,
    root_path,
    url,
    user,
    variable,
    whole,
)
from gworker.config.settings import Layer
from gworker.errors import ConfigError

PROJECT = "pyproject.toml"

MAX_FILE = 1 << 20  # bytes; a reload parses the file between two turns of the arbiter
MAX_SHOWN = 100  # characters of a bad value that an error shows

BY_KEY: Final = {option.key: option for option in OPTIONS}

# What a `[worker.NAME]` table may hold, by the name of the Worker argument. None: a boolean;
# `automatic`: a boolean or "auto".
WORKER_KEYS: Final[Mapping[str, Callable[[str], object] | None]] = {
    "listen": url,
    "count": whole(1),
    "user": user,
    "group": group,
    "reloadable": None,
    "reuse_port": None,
    "backlog": whole(1),
    "handover": automatic,
    "proxy_protocol": None,
    "forwarded_allow_ips": networks,
    "unix_mode": mode,
    "unix_user": user,
    "unix_group": group,
    "upload_dir": path,
    "root_path": root_path,
    "access_log_format": access_format,
    **{key: BY_KEY[key].parse for key in DEFAULT_LIMITS},
}


def file_layer(filename: str, only: Iterable[Option] = OPTIONS) -> Layer:
    """The settings in `filename`. Relative paths in it start from its directory.

    only: the options to read; with less than all of them, other keys are ignored. Raises
    ConfigError.
    """
    table = read_table(filename)
    if table is None:
        raise ConfigError(f"{filename}: there is no table [tool.gworker]")
    where = f"{filename} [tool.gworker]" if os.path.basename(filename) == PROJECT else filename
    base = os.path.dirname(os.path.abspath(filename))
    wanted = {option.key for option in only}
    strict = wanted == BY_KEY.keys()
    values: dict[str, object] = {}
    for known, key, value in _items(table, where):
        if known == "target":
            if not isinstance(value, str) or not value:
                raise _invalid(f"{where}: target", value, "module[:attr] or path/to/file.py[:attr]")
            values |= {"target": value, "target_base": base}
        elif known == "worker" and strict:
            values["of_workers"] = _of_workers(value, base, where)
        elif known in wanted and BY_KEY[known].file:
            values[known] = _of_toml(BY_KEY[known], value, base, f"{where}: {key}")
        elif strict:
            names = [option.name for option in OPTIONS if option.file]
            raise ConfigError(
                f"{where}: unknown key {key!r}{nearest(key, [*names, 'target', 'worker'])}"
            )
    return Layer(where, values)


def read_table(filename: str) -> Mapping[str, object] | None:
    """The settings in a file; those of a pyproject.toml are in [tool.gworker], if there is one.
    Raises ConfigError."""
    data = _content(filename)
    is_project = os.path.basename(filename) == PROJECT
    if is_project and b"gworker" not in data:
        return None
    # Imported here: most commands find no file, and tomllib takes longer than all that they do.
    import tomllib

    try:
        found: object = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{filename}: invalid TOML: not UTF-8 (at line {line})") from None
    except (ValueError, RecursionError) as error:  # ValueError: also for thousands of digits
        end = f"at line {len(data.splitlines())}, the end"
        reason = str(error).replace("at end of document", end)
        raise ConfigError(f"{filename}: invalid TOML: {reason}") from None
    for key in ("tool", "gworker") if is_project else ():
        assert isinstance(found, dict)
        found = found.get(key, {} if key == "tool" else None)
        if found is None:
            return None
        if not isinstance(found, dict):
            raise _invalid(f"{filename}: {key}", found, "a table")
    assert isinstance(found, dict)
    return found


def _content(filename: str) -> bytes:
    # What is in a file. Non-blocking: a named pipe must not hang the start.
    try:
        fd = os.open(filename, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ConfigError(
                f"cannot read {filename}: it is no regular file, and a reload has to read it again"
            )
        with open(fd, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {filename}: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise ConfigError(f"cannot read {filename}: it is larger than {MAX_FILE >> 20} MiB")
    return data


def _items(table: Mapping[str, object], where: str) -> Iterator[tuple[str, str, object]]:
    # The entries of a table as (name, key as it is written, value). Raises ConfigError.
    seen = set()
    for key, value in table.items():
        known = key.replace("-", "_")
        if known in seen:
            raise ConfigError(f"{where}: {key} is given twice, with - and with _")
        seen.add(known)
        yield known, key, value


def _invalid(what: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"{what} = {_shown(value)} is not valid, expected {expected}")


def _of_toml(option: Option, value: object, base: str, where: str) -> object:
    # The value of an option, from what TOML makes of it. `where` names the file and the key.
    def parse(text: str) -> object:
        return option.value(os.path.join(base, text) if option.parse is path and text else text)

    if option.parse is None:
        if not isinstance(value, bool):
            raise _invalid(where, value, "true or false")
        return value
    if option.parse is variable and isinstance(value, dict):
        return tuple(_variable(name, item, where) for name, item in value.items())
    if not option.repeat:
        return _scalar(parse, value, where, option)
    items = value if isinstance(value, list) else [value]
    return tuple(_scalar(parse, item, where, option) for item in items)


def _variable(name: str, value: object, where: str) -> tuple[str, str]:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _invalid(f"{where}.{name}", value, "a string")
    if "=" in name:
        raise ConfigError(f"{where}: {name!r} is not valid, expected a name without =")
    try:
        return variable(f"{name}={value}")
    except ValueError as error:
        raise _invalid(f"{where}.{name}", value, str(error)) from None


def _scalar(parse: Callable[[str], object], value: object, where: str, option: Option) -> object:
    # A string as on the command line, or a number that its text is parsed to.
    #
    # So a umask, which is octal, has to be a string, and so has a name made of digits.
    is_number = (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 63
    )
    try:
        # Any other value is replaced by a text that every parser refuses with what it expects.
        parsed = parse(str(value) if isinstance(value, str) or is_number else "\0")
    except ValueError as error:
        expected = str(error).partition(" is not valid, expected ")[2]
        shown = option.shown(value) if isinstance(value, str) else value
        raise _invalid(where, shown, expected) from None
    if isinstance(value, str) or (is_number and not isinstance(parsed, str) and parsed == value):
        return parsed
    raise _invalid(where, value, f'a string, as in "{value}"' if is_number else "a string")


def _shown(value: object) -> str:
    # A value roughly as TOML writes it, and not too much of it.
    if isinstance(value, bool):
        return str(value).lower()
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a number"
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + " …"


def _of_workers(value: object, base: str, where: str) -> dict[str, dict[str, object]]:
    if not isinstance(value, dict) or not all(isinstance(own, dict) for own in value.values()):
        raise ConfigError(f"{where}: worker: expected tables [worker.NAME]")
    return {name: _of_worker(own, base, f"{where} [worker.{name}]") for name, own in value.items()}


def _of_worker(table: Mapping[str, object], base: str, where: str) -> dict[str, object]:
    values: dict[str, object] = {}
    for known, key, value in _items(table, where):
        if known not in WORKER_KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, WORKER_KEYS)}")
        parse = WORKER_KEYS[known]
        if parse is automatic and isinstance(value, bool):
            values[known] = value
        else:
            option = Option((f"--{known}",), parse, None, "", "")
            values[known] = _of_toml(option, value, base, f"{where}: {key}")
    return values
