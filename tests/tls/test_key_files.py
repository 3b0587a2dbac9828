"""Key files, as one process reads them for others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gworker.errors import ConfigError
from gworker.tls.key_files import Reader, pack, read, read_all, unpack


def test_what_is_read_for_others_has_to_look_like_a_certificate_or_key(
    files: dict[str, str], tmp_path: Path
) -> None:
    secret = tmp_path / "id"
    secret.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    paths = [*files.values(), str(secret), str(tmp_path), "/none"]
    expected: dict[str, bytes | str] = {path: Path(path).read_bytes() for path in files.values()}
    expected |= {
        str(secret): b"",
        str(tmp_path): "Is a directory",
        "/none": "No such file or directory",
    }
    assert read_all(paths) == expected
    assert unpack(pack(paths)) == expected
    assert Reader().read_all(paths) == expected


def test_what_may_not_be_read_any_more_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gworker.tls.key_files._read", refuse)
    assert read("/key", {"/key": b"kept"}) == b"kept"
    with pytest.raises(ConfigError, match="^/key: No such file$"):
        read("/key", {"/key": "No such file"})
    with pytest.raises(ConfigError, match="^/other: Permission denied$"):
        read("/other", {"/key": b"kept"})


def test_a_directory_costs_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert read_all([str(tmp_path)] * 5) == {str(tmp_path): "Is a directory"}
    assert len(os.listdir("/proc/self/fd")) == before
