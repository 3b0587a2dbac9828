"""Commands in this process, and what they reach."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import Arbiters, Server

import gworker.cli as cli_package
from gworker.cli import main


@pytest.fixture
def arbiters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Arbiters]:
    made = Arbiters(str(tmp_path / "gworker"))
    monkeypatch.setenv("GWORKER_RUNTIME_DIR", made.directory)
    yield made
    made.end()


@pytest.fixture
def gworker(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*argv: str) -> tuple[int, str, str]:
        try:
            code = main.main(argv)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        finally:
            gc.enable()
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    for name in ("serve", "check"):
        monkeypatch.setitem(sys.modules, f"gworker.cli.{name}", made)
        monkeypatch.setattr(cli_package, name, made, raising=False)
    return made
