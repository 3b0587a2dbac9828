"""Log lines: one write each, to a descriptor that can be replaced while it is in use."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gworker import logs

LINE = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] \[INFO\] "


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger, last_resort = logging.getLogger("gworker"), logging.lastResort
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before
    logging.lastResort = last_resort


def test_a_line_says_when_who_and_how_bad(tmp_path: Path, logger: logging.Logger) -> None:
    import re

    descriptor = logs.open_file(str(tmp_path / "log"))
    logs.configure(descriptor, "info")
    logger.info("worker %s is ready", "web#0")
    logger.debug("unheard")
    os.close(descriptor)
    text = (tmp_path / "log").read_text()
    assert re.fullmatch(LINE + "worker web#0 is ready\n", text)
    assert f"[{os.getpid()}]" in text


def test_no_file_is_stderr() -> None:
    assert logs.open_file(None) == 2


def test_a_full_disk_or_a_closed_terminal_stops_nobody(logger: logging.Logger) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    logs.configure(full, "info")
    logger.info("lost")
    os.close(full)
    logger.info("lost as well")


def test_names_that_are_no_utf8_can_be_logged(tmp_path: Path, logger: logging.Logger) -> None:
    descriptor = logs.open_file(str(tmp_path / "log"))
    logs.configure(descriptor, "info")
    logger.info("file %s", "caf\udce9")
    os.close(descriptor)
    assert "file caf\\udce9" in (tmp_path / "log").read_text()


def test_reopened_files_take_the_place_of_the_old_ones(tmp_path: Path, logger: logging.Logger) -> None:
    path = tmp_path / "log"
    descriptor = logs.open_file(str(path))
    logs.configure(descriptor, "info")
    logger.info("before")
    path.rename(tmp_path / "log.1")
    pairs = logs.reopened(descriptor, str(path), None)
    assert [old for old, _ in pairs] == [descriptor]
    logs.replace(pairs)
    logger.info("after")
    os.close(descriptor)
    assert "before" in (tmp_path / "log.1").read_text()
    assert "after" in path.read_text()
    assert "after" not in (tmp_path / "log.1").read_text()


def test_all_or_nothing_is_reopened(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No such file") as caught:
        logs.reopened(2, str(tmp_path / "log"), str(tmp_path / "no" / "out"))
    assert caught.value.filename == str(tmp_path / "no" / "out")
    assert len(os.listdir("/proc/self/fd")) == before


def test_only_stdout_and_stderr_reach_programs_that_are_executed(tmp_path: Path) -> None:
    target = os.open(os.devnull, os.O_WRONLY)
    logs.replace([(target, logs.open_file(str(tmp_path / "log")))])
    assert not os.get_inheritable(target)
    os.close(target)


USER = """
import logging
from gworker import logs
logs.configure(logs.open_file({path!r}), "info")
{setup}
logging.getLogger("app").warning("user warning")
logging.getLogger("app").info("user info")
"""


def user_code(path: Path, setup: str) -> tuple[str, str]:
    """(the log file, stderr) of a program that logs after gworker has set up its own log."""
    done = subprocess.run(
        [sys.executable, "-c", USER.format(path=str(path), setup=setup)], capture_output=True, text=True, check=True
    )
    return path.read_text(), done.stderr


def test_warnings_of_code_that_has_set_up_nothing_are_in_the_log(tmp_path: Path) -> None:
    log, stderr = user_code(tmp_path / "log", "")
    assert "[WARNING] user warning" in log
    assert "user info" not in log
    assert stderr == ""


def test_what_user_code_sets_up_is_left_to_it(tmp_path: Path) -> None:
    log, stderr = user_code(tmp_path / "log", "logging.basicConfig(level=logging.INFO)")
    assert log == ""
    assert "user warning" in stderr
    assert "user info" in stderr
