"""Log lines: one write each, to a descriptor that can be replaced while it is in use."""

from __future__ import annotations

import _thread
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from gworker.config.settings import Layer, Settings, resolve
from gworker.logs import nonblocking
from gworker.logs import setup as logs

LINE = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] \[INFO\] "


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger, last_resort = logging.getLogger("gworker"), logging.lastResort
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before
    logging.lastResort = last_resort
    logs.set_process_name(logs.ARBITER)


def settings(**values: object) -> Settings:
    return resolve("app", Layer("test", {"runtime_dir": "/", **values}))


def test_a_line_says_when_which_process_and_how_bad(tmp_path: Path, logger: logging.Logger) -> None:
    descriptor = nonblocking.open_path(str(tmp_path / "log"))
    logs.configure(descriptor, "info")
    logger.info("worker %s is ready", "web#0")
    logger.debug("unheard")
    os.close(descriptor)
    text = (tmp_path / "log").read_text()
    assert re.fullmatch(LINE + "worker web#0 is ready\n", text)
    assert f"[{os.getpid()}]" in text


FORGED = "[2026-01-01 00:00:00 +0000] [1] [INFO] web#0 is ready"

CONTROLS = [
    chr(code)
    for code in (*range(10), *range(11, 32), *range(127, 160), 0x2028, 0x2029, 0x202E, 0x2066)
]


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize(
    "end", ["\n", "\r", "\r\n", "\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1e"], ids=ascii
)
def test_no_text_can_look_like_another_record(
    tmp_path: Path, logger: logging.Logger, style: str, end: str
) -> None:
    descriptor = nonblocking.open_path(str(tmp_path / "log"))
    logs.configure(descriptor, "info", style)
    logger.info("peer %s has gone", f"/tmp/a{end}{FORGED}")
    logger.error("exception in on_message", exc_info=ValueError(f"bad{end}{FORGED}"))
    logs.write_past_logging(f"stacks{end}{FORGED}")
    os.close(descriptor)
    lines = (tmp_path / "log").read_text().splitlines()
    records = [line for line in lines if not line.startswith("    ")]
    assert len(records) == 3
    assert not any(line.startswith(FORGED) for line in lines)


def test_controls_are_escaped(tmp_path: Path, logger: logging.Logger) -> None:
    descriptor = nonblocking.open_path(str(tmp_path / "log"))
    logs.configure(descriptor, "info")
    for control in CONTROLS:
        logger.info("<%s>", control)
    logger.info("a\tb\rc\x1b[31md\x9be\u2028f é 漢 \U0001f600")
    os.close(descriptor)
    text = (tmp_path / "log").read_text()
    assert not any(control in text for control in CONTROLS)
    assert text.endswith("a\\tb\\rc\\x1b[31md\\x9be\\u2028f é 漢 \U0001f600\n")


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_huge_message_is_cut(tmp_path: Path, logger: logging.Logger, style: str) -> None:
    descriptor = nonblocking.open_path(str(tmp_path / "log"))
    logs.configure(descriptor, "info", style)
    logger.info("begin %s end", "\x1b" * 10_000_000)
    logger.error("failed", exc_info=ValueError("x" * 10_000_000 + " the end"))
    os.close(descriptor)
    text = (tmp_path / "log").read_text()
    assert len(text) < 8 * logs.MAX_RECORD
    assert "begin " in text
    assert " end" in text
    assert " the end" in text
    assert text.count(" characters left out ...") == 2


def test_no_file_is_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "unshared", lambda descriptor: descriptor)  # as for a regular file
    assert logs.open_outputs(settings()) == logs.Outputs(2)
    assert logs.open_outputs(settings(), standard=77) == logs.Outputs(2), (
        "which is what 77 is going to be"
    )


def test_a_full_disk_or_a_closed_terminal_stops_no_process(logger: logging.Logger) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    logs.configure(full, "info")
    logger.info("lost")
    os.close(full)
    logger.info("lost as well")


def test_names_that_are_no_utf8_can_be_logged(tmp_path: Path, logger: logging.Logger) -> None:
    descriptor = nonblocking.open_path(str(tmp_path / "log"))
    logs.configure(descriptor, "info")
    logger.info("file %s", "caf\udce9")
    os.close(descriptor)
    assert "file caf\\udce9" in (tmp_path / "log").read_text()


def test_reopened_files_take_the_place_of_the_old_ones(
    tmp_path: Path, logger: logging.Logger
) -> None:
    path = tmp_path / "log"
    descriptor = nonblocking.open_path(str(path))
    logs.configure(descriptor, "info")
    logger.info("before")
    path.rename(tmp_path / "log.1")
    pairs = logs.Outputs(descriptor).reopened(settings(log_file=str(path)))
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
        logs.Outputs(2, 7).reopened(
            settings(
                log_file=str(tmp_path / "log"),
                stdout_file=str(tmp_path / "out"),
                access_log=str(tmp_path / "no" / "out"),
            )
        )
    assert caught.value.filename == str(tmp_path / "no" / "out")
    assert len(os.listdir("/proc/self/fd")) == before


def test_only_stdout_and_stderr_reach_programs_that_are_executed(tmp_path: Path) -> None:
    target = os.open(os.devnull, os.O_WRONLY)
    logs.replace([(target, nonblocking.open_path(str(tmp_path / "log")))])
    assert not os.get_inheritable(target)
    os.close(target)


USER = """
import logging
from gworker.logs import nonblocking as sink, setup as logs
logs.configure(sink.open_path({path!r}), "info")
{setup}
logging.getLogger("app").warning("user warning")
logging.getLogger("app").info("user info")
"""


def user_code(path: Path, setup: str) -> tuple[str, str]:
    """(the log file, stderr) of a program that logs after gworker has set up its own log."""
    done = subprocess.run(
        [sys.executable, "-c", USER.format(path=str(path), setup=setup)],
        capture_output=True,
        text=True,
        check=True,
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


# ---- json


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_is_one_object_in_one_line(tmp_path: Path, logger: logging.Logger) -> None:
    descriptor = nonblocking.open_path(str(tmp_path / "log"))
    logs.configure(descriptor, "info", "json")
    logs.set_process_name("web#0")
    try:
        int("of \n two lines")
    except ValueError:
        logger.exception('said "%s"', "caf\udce9\u2028\r\n{}")
    os.close(descriptor)
    (record,) = records(tmp_path / "log")
    assert {key: record[key] for key in ("level", "pid", "process", "logger")} == {
        "level": "error",
        "pid": os.getpid(),
        "process": "web#0",
        "logger": "gworker",
    }
    assert record["message"] == 'said "caf\udce9\u2028\r\n{}"'
    assert str(record["exception"]).startswith("Traceback (most recent call last):\n")
    assert str(record["exception"]).endswith("with base 10: 'of \\n two lines'")
    time = datetime.fromisoformat(str(record["time"]))
    assert time.tzinfo is not None
    assert abs(time.timestamp() - datetime.now().timestamp()) < 60


def test_warnings_of_user_code_are_json_too(tmp_path: Path) -> None:
    program = USER.format(path=str(tmp_path / "log"), setup="").replace(
        '"info")', '"info", "json")'
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    (record,) = records(tmp_path / "log")
    assert (record["logger"], record["message"]) == ("app", "user warning")


def test_arguments_that_do_not_fit_are_no_reason_to_be_silent(
    tmp_path: Path, logger: logging.Logger
) -> None:
    descriptor = nonblocking.open_path(str(tmp_path / "log"))
    logs.configure(descriptor, "info")
    logger.info("%d processes", "many")
    os.close(descriptor)
    assert "cannot be formatted: '%d processes'" in (tmp_path / "log").read_text()


# ---- a reader that does not read


def test_records_that_a_full_pipe_does_not_take_are_counted(logger: logging.Logger) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    logs.configure(writer, "info")
    for number in range(2000):
        logger.info("%04d %s", number, "x" * 200)
    taken = os.read(reader, 1 << 20).decode()
    logger.info("after")
    rest = os.read(reader, 1 << 20).decode()
    os.close(reader)
    os.close(writer)
    written = taken.count("\n")
    assert 100 < written < 2000
    assert taken.splitlines()[-1].split("] ")[-1].startswith(f"{written - 1:04d} "), (
        "the first ones, without a gap"
    )
    assert (
        f"[WARNING] {2000 - written} log records before this one are lost" in rest.splitlines()[0]
    )
    assert rest.splitlines()[1].endswith("after")


def test_what_was_lost_is_told_at_the_end(logger: logging.Logger) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    logs.configure(writer, "info")
    for _ in range(500):
        logger.info("x" * 1000)
    os.read(reader, 1 << 20)
    logs.flush()
    assert b" log records before this one are lost" in os.read(reader, 1 << 20)
    os.close(reader)
    os.close(writer)


# ---- what repeats itself


def test_errors_of_the_arbiter_are_limited_and_its_news_are_not(
    tmp_path: Path, logger: logging.Logger
) -> None:
    descriptor = nonblocking.open_path(str(tmp_path / "log"))
    logs.configure(descriptor, "info")
    for number in range(300):
        logger.info("process %d is ready", number)
        logger.error("process %d died", number)
    logs.flush()
    os.close(descriptor)
    text = (tmp_path / "log").read_text()
    assert text.count("is ready") == 300
    assert text.count(" died\n") == logs.ARBITERS_BURST
    assert f"process 0 died: repeated {300 - logs.ARBITERS_BURST} times in the last 0.1 s" in text


def test_a_child_counts_for_itself_and_at_every_level(
    tmp_path: Path, logger: logging.Logger
) -> None:
    descriptor = nonblocking.open_path(str(tmp_path / "log"))
    logs.configure(descriptor, "info", "json")
    for _ in range(logs.ARBITERS_BURST + 5):
        logger.error("of the arbiter")
    logs.set_process_name("web#0")
    for number in range(30):
        logger.info("peer %d breaks the rules", number)
        logging.getLogger("gworker.app").info("of a user")
    logs.flush()
    os.close(descriptor)
    found = records(tmp_path / "log")
    assert sum("breaks the rules" in str(record["message"]) for record in found) == 10 + 1
    assert [record["repeated"] for record in found if "repeated" in record] == [20]
    assert sum(record["message"] == "of a user" for record in found) == 30


@pytest.mark.parametrize("style", ["text", "json"])
def test_stacks_are_written_without_a_lock_of_logging(
    tmp_path: Path, logger: logging.Logger, style: str
) -> None:
    descriptor = nonblocking.open_path(str(tmp_path / "log"))
    logs.configure(descriptor, "info", style)
    (handler,) = logger.handlers
    # Fails if it is taken: what was interrupted by the signal may hold it, or a thread that waits
    # for us.
    handler.acquire = lambda: pytest.fail("took the lock")  # type: ignore[method-assign]
    logs.write_past_logging("stack one\nstack two\n")
    os.close(descriptor)
    if style == "text":
        text = (tmp_path / "log").read_text()
        assert re.fullmatch(LINE.replace("INFO", "ERROR") + "stack one\n    stack two\n", text)
    else:
        (record,) = records(tmp_path / "log")
        assert (record["message"], record["level"]) == ("stack one\nstack two\n", "error")


def test_a_thread_of_the_system_that_writes_stacks_stays_unknown_to_threading(
    logger: logging.Logger,
) -> None:
    reader, writer = os.pipe()
    logs.configure(writer, "info")
    before = threading.enumerate()
    _thread.start_new_thread(logs.write_past_logging, ("stack\n",))
    assert os.read(reader, 4096).endswith(b"stack\n")
    assert threading.enumerate() == before
    os.close(reader)
    os.close(writer)


def test_stacks_that_a_full_pipe_does_not_take_stop_no_process(logger: logging.Logger) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    logs.configure(writer, "info")
    for _ in range(100):
        logs.write_past_logging("x" * 5000 + "\n")
    os.close(reader)
    logs.write_past_logging("without a reader\n")
    os.close(writer)


# ---- text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain é", "plain é"),
        ("two\nlines\n", f"two\n{logs.INDENT}lines"),
        ("tab\tand\rreturn", r"tab\tand\rreturn"),
        ("bell\a, escape\x1b[31m", r"bell\x07, escape\x1b[31m"),
        ("C1 \x85, separator \u2028", r"C1 \x85, separator \u2028"),
        ("turned \u202e", r"turned \u202e"),
    ],
)
def test_controls_are_escaped_and_further_lines_are_indented(given: str, shown: str) -> None:
    assert logs.as_one_record(given) == shown


def test_a_long_record_keeps_its_beginning_and_its_end() -> None:
    shown = logs.cut("a" + "x" * logs.MAX_RECORD + "z")
    assert shown.startswith("ax")
    assert shown.endswith("xz")
    assert "\n... 2 characters left out ...\n" in shown
    assert logs.cut("x" * logs.MAX_RECORD) == "x" * logs.MAX_RECORD
