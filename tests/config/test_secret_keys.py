"""Keys and files of keys: what is one, what is read, and that nothing shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gworker.config.options import OPTIONS, InvalidValue
from gworker.config.secret_keys import SecretKey, hidden, read, secret_key
from gworker.errors import ConfigError

KEY = "0123456789abcdef"
OPTION = next(each for each in OPTIONS if each.name == "secret-key")


def test_a_key_or_a_file() -> None:
    assert secret_key(KEY) == SecretKey(KEY)
    assert secret_key("/etc/key") == SecretKey(path="/etc/key")
    assert secret_key("./key").path.endswith("/key")


def test_nothing_shows_a_key() -> None:
    assert KEY not in f"{SecretKey(KEY)} {SecretKey(KEY)!r} {hidden(KEY)}"
    assert (str(SecretKey(path="/etc/key")), hidden("/etc/key")) == ("/etc/key", "/etc/key")


@pytest.mark.parametrize("bad", ["", "short", "with a blank in between", "a,b" * 10, "\n" * 20])
def test_what_is_no_key_is_refused_and_not_shown(bad: str) -> None:
    with pytest.raises(InvalidValue, match=r"^'\*\*\*' is not valid, expected a key of 16"):
        OPTION.value(bad)


def test_files_have_a_key_in_each_line(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"# the new one\n{KEY}1\n\n{KEY}2\n")
    file = SecretKey(path=str(tmp_path / "keys"))
    assert read([SecretKey(KEY), file]) == (KEY, f"{KEY}1", f"{KEY}2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*: No such file"),
        (b"\xff\xfe" * 20, "it is not UTF-8"),
        (b"# nothing\n", "expected a key of 16"),
        (KEY.encode() + b"\nshort\n", "expected a key of 16"),
    ],
)
def test_a_file_without_a_key_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read([SecretKey(path=str(tmp_path / "keys"))])
