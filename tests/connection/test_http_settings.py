"""What the settings of a process say about its requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from gworker.config.settings import Layer, resolve
from gworker.connection.http_settings import check_directory, upload_dir
from gworker.errors import ConfigError


def test_where_uploads_are_spooled() -> None:
    nothing = resolve("app", Layer("test", {}))
    everywhere = resolve("app", Layer("test", {"upload_dir": "/all"}))
    assert upload_dir({}, nothing, "web") is None
    assert upload_dir({"upload_dir": "/own"}, nothing, "web") == "/own"
    assert upload_dir({"upload_dir": "/own"}, everywhere, "web") == "/all"


def test_a_directory_that_is_none_is_named(tmp_path: Path) -> None:
    check_directory(str(tmp_path), "web")
    with pytest.raises(ConfigError, match=r"^web: upload_dir .*/missing is no directory$"):
        check_directory(str(tmp_path / "missing"), "web")
