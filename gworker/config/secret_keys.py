"""Keys that sign what goes to clients and comes back: their text, or the file that has them.

Nothing shows a key: `str` and `repr` of one are `***`, or the path of its file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gworker.broker.url import HIDDEN
from gworker.config.parsers import path
from gworker.errors import ConfigError

SHORTEST: Final = 16  # characters of a key


@dataclass(frozen=True, slots=True)
class SecretKey:
    """One key; or a path, of a file with a key in each line."""

    key: str = field(default="", repr=False)
    path: str = ""

    def __str__(self) -> str:
        return self.path or HIDDEN


def hidden(text: str) -> str:
    """A value of the option as an error may show it."""
    return text if _is_path(text) else HIDDEN


def secret_key(text: str) -> SecretKey:
    """A key, or the path of a file: that begins with / or with a dot."""
    if _is_path(text):
        return SecretKey(path=path(text))
    if not _is_key(text):
        raise ValueError(
            f"a key of {SHORTEST} printable characters or more without spaces and commas, or the "
            "path of a file, as /etc/shop.key or ./shop.key"
        )
    return SecretKey(text)


def _is_path(text: str) -> bool:
    return text.startswith(("/", "./", "../"))


def _is_key(text: str) -> bool:
    return len(text) >= SHORTEST and text.isprintable() and not {" ", ","} & {*text}


def read(secrets: Sequence[SecretKey]) -> tuple[str, ...]:
    """The keys, in their order. Raises ConfigError for a file that cannot be read or holds none."""
    return tuple(
        key for each in secrets for key in (_of_file(each.path) if each.path else [each.key])
    )


def _of_file(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"secret-key: cannot read {path}: {reason}") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys or not all(map(_is_key, keys)):
        raise ConfigError(
            f"secret-key: {path}: expected a key of {SHORTEST} printable characters or more in "
            "each line, without spaces and commas"
        )
    return keys
