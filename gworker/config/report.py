"""The effective settings as people and programs read them: each value with where it comes from.

`rows` is what there is to show, in plain values that JSON can carry; `as_toml` writes it as a file
of settings that says the same, one setting per line, with the origin as a comment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gworker.broker.url import BrokerUrl
from gworker.config.access_format import AccessFormat
from gworker.config.options import DEFAULT_LIMITS, OPTIONS, Option
from gworker.config.parsers import octal, variable
from gworker.config.settings import Settings


class Row(NamedTuple):
    """One setting. name: the option's, or `worker.NAME.setting` for a setting of one Worker.

    value: one that JSON can carry.
    """

    name: str
    value: object
    origin: str


def rows(
    settings: Settings, declared: Mapping[str, Mapping[str, object]] | None = None
) -> list[Row]:
    """Every setting in force; its value is None if it is not given and nothing is implied.

    declared: the limits that Workers set for themselves, by Worker.
    """
    found = [Row("target", settings.target, settings.origins["target"])]
    found += [
        Row(each.name, _plain(each, settings), settings.origins[each.key]) for each in OPTIONS
    ]
    declared = declared or {}
    # What the file says of single Workers, and what Workers say themselves and nothing overrides.
    for name in [*declared, *(name for name in settings.of_workers if name not in declared)]:
        said = settings.of_workers.get(name, {})
        above = settings.limits_of(name)
        own = {key: value for key, value in declared.get(name, {}).items() if key not in above}
        where = f"{settings.origins['of_workers']} [worker.{name}]"
        found += [
            Row(
                _of_worker(name, key),
                str(value) if isinstance(value, AccessFormat) else value,
                where,
            )
            for key, value in said.items()
        ]
        found += [Row(_of_worker(name, key), value, f"Worker {name}") for key, value in own.items()]
    return found


def changes(before: Settings, after: Settings) -> list[str]:
    """What differs, as a log shows it: `workers 2 → 4`. Values of --env may be secret, and are not
    shown."""
    old, new = ({row.name: row.value for row in rows(each)} for each in (before, after))
    return [
        name if name == "env" else f"{name} {as_text(old.get(name))} → {as_text(new.get(name))}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def _plain(option: Option, settings: Settings) -> object:
    if option.limit:
        return settings.limits.get(option.key, DEFAULT_LIMITS[option.key])
    value = getattr(settings, option.key)
    if value is None:
        return option.implied() if callable(option.implied) else option.implied
    if isinstance(value, BrokerUrl | AccessFormat):
        return str(value)
    if option.parse is variable:
        return dict(value)
    if option.parse is octal:
        return f"{value:03o}"
    if option.hide is not None:
        return list(map(str, value))
    return list(value) if option.repeat else value


def _of_worker(name: str, key: str) -> str:
    return f"worker.{_key(name)}.{key.replace('_', '-')}"


def as_text(value: object) -> str:
    """A value as a table for people shows it."""
    if isinstance(value, dict):
        value = [f"{key}={item}" for key, item in value.items()]
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return str(value).lower()
    return "-" if value is None else str(value)


def as_toml(found: Iterable[Row], pending: Iterable[str] = ()) -> str:
    """A file of settings that says the same; what a file cannot say, or is not set, is a comment.

    pending: names of options that need a restart.
    """
    excluded = {option.name for option in OPTIONS if not option.file}
    lines = []
    for name, value, origin in found:
        if value is None:
            lines.append(f"# {name}  # {origin}")
        else:
            comment = "# " if name in excluded else ""
            lines.append(f"{comment}{name} = {_toml(value)}  # {origin}")
    lines += [f"# restart needed for: {', '.join(pending)}"] if pending else []
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)
