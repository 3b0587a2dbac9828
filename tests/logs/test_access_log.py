"""The access log's lines, what a peer cannot do to them, and what becomes of those that the system
does not take."""

from __future__ import annotations

import json
import locale
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gworker.logs import access_log, nonblocking
from gworker.logs.access_log import FLUSH_BYTES, MOST_BYTES, AccessLog, Entry, json_line, text_line

HEAD = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nReferer: http://y/\r\nuser-agent:\tcurl/8\r\n\r\n"

COMBINED = re.compile(
    r"(?P<ip>\S+) - - \[(?P<time>\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    r'"(?P<line>(?:[^"\\]|\\.)*)"'
    r' (?P<status>\d{3}|-) (?P<size>\d+) "(?P<referer>(?:[^"\\]|\\.)*)" '
    r'"(?P<agent>(?:[^"\\]|\\.)*)"'
    r' ms=(?P<ms>\d+\.\d{3}) worker="(?P<worker>(?:[^"\\]|\\.)*)"(?P<rest>.*)\n'
)


def entry(**fields: Any) -> Entry:
    known: dict[str, Any] = {
        "protocol": "http", "ip": "192.0.2.7", "remote": "192.0.2.7:5555", "head": HEAD,
        "status": 200, "sent": 512,
        "seconds": 0.0032144,
    }  # fmt: skip
    return Entry(**{**known, **fields})


def parsed(**fields: Any) -> dict[str, str]:
    line = text_line("web#0", entry(**fields)).decode("ascii")
    match = COMBINED.fullmatch(line)
    assert match is not None, line
    return match.groupdict()


def test_text_is_the_combined_format_and_more() -> None:
    found = parsed()
    del found["time"]
    assert found == {
        "ip": "192.0.2.7", "line": "GET /a?b=c HTTP/1.1", "status": "200", "size": "512",
        "referer": "http://y/",
        "agent": "curl/8", "ms": "3.214", "worker": "web#0", "rest": "",
    }  # fmt: skip


def test_what_there_is_not_is_a_dash() -> None:
    found = parsed(head=b"GET / HTTP/1.1\r\n\r\n", status=0, ip="")
    assert [found[key] for key in ("ip", "status", "referer", "agent")] == ["unix", "-", "-", "-"]


def test_a_connection_tells_both_directions_and_its_close_code() -> None:
    found = parsed(status=101, received=77, close_code=1001, close_reason='going "away"\n')
    assert found["rest"] == r' in=77 close=1001 reason="going \"away\"\x0a"'
    found = parsed(protocol="text", head=b"", status=0, received=3)
    assert (found["line"], found["rest"]) == ("text", " in=3")


EVIL = (
    b'GET /"\x1b[31m\\\xff HTTP/1.1\r\nUser-Agent: a" 200 1 "b\x00\x7f\r\nReferer: '
    b"\xe2\x80\xa8\r\n\r\n"
)


def test_a_peer_can_neither_end_a_line_nor_a_field() -> None:
    found = parsed(head=EVIL)
    assert found["line"] == r"GET /\"\x1b[31m\\\xff HTTP/1.1"
    assert found["agent"] == r"a\" 200 1 \"b\x00\x7f"
    assert found["referer"] == r"\xe2\x80\xa8"


@pytest.mark.parametrize("byte", [b"a", b'"', b"\x01"])
def test_a_line_of_text_stays_whole_in_a_pipe(byte: bytes) -> None:
    head = (
        b"GET /"
        + byte * 8000
        + b" HTTP/1.1\r\nReferer: "
        + byte * 8000
        + b"\r\nUser-Agent: "
        + byte * 8000
    )
    line = text_line(
        "web#0", entry(head=head + b"\r\n\r\n", received=1, close_code=1000, close_reason="r" * 123)
    )
    assert COMBINED.fullmatch(line.decode())
    assert len(line) <= 4096


def test_json_has_the_same() -> None:
    found = json.loads(json_line("web#0", entry(head=EVIL, aborted=True)))
    assert found.pop("time")[10] == "T"
    assert found == {
        "pid": os.getpid(), "process": "web#0", "protocol": "http", "remote": "192.0.2.7:5555",
        "method": "GET",
        "target": '/"\x1b[31m\\\xff', "version": "1.1", "status": 200, "bytes_sent": 512,
        "ms": 3.214,
        "referer": "\xe2\x80\xa8", "user_agent": 'a" 200 1 "b\x00\x7f', "aborted": True,
    }  # fmt: skip
    assert json_line("web#0", entry(head=EVIL)).count(b"\n") == 1


def test_json_of_what_is_no_request() -> None:
    found = json.loads(json_line("web#0", entry(head=b"rubbish\r\n", status=400)))
    assert (found["request"], found["status"]) == ("rubbish", 400)
    assert "method" not in found
    found = json.loads(json_line("w#1", entry(protocol="text", head=b"", status=0, received=9)))
    assert (found["bytes_received"], found["bytes_sent"]) == (9, 512)
    assert not {"status", "request", "referer", "close_code"} & set(found)


def test_months_are_english_whatever_the_locale() -> None:
    before = locale.setlocale(locale.LC_TIME)
    for name in ("de_DE.UTF-8", "C"):
        try:
            locale.setlocale(locale.LC_TIME, name)
        except locale.Error:
            continue
        assert parsed()["time"][3:6] in access_log.MONTHS
    locale.setlocale(locale.LC_TIME, before)


# ---- the writer


class Loop:
    """The event loop's timer, which runs when a test says so."""

    def __init__(self) -> None:
        self.armed: Callable[[], None] | None = None

    def timer(self, *_: float) -> Loop:
        return self

    def again(self, callback: Callable[[], None]) -> None:
        self.armed = callback

    def stop(self) -> None:
        self.armed = None

    def tick(self) -> None:
        assert self.armed is not None
        self.armed()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def everything(reader: int) -> bytes:
    found = b""
    try:
        while data := os.read(reader, 1 << 20):
            found += data
    except BlockingIOError:
        pass
    return found


def test_lines_are_gathered_and_the_timer_runs_only_then(tmp_path: Path) -> None:
    path, loop = tmp_path / "access", Loop()
    log = AccessLog(nonblocking.open_path(str(path)), loop, "web#0", "text")
    assert loop.armed is None
    log.add(entry())
    log.add(entry())
    assert path.read_bytes() == b""
    loop.tick()
    assert path.read_bytes().count(b"\n") == 2
    assert loop.armed is None
    log.add(entry())
    assert loop.armed is not None


def test_many_lines_do_not_wait_for_the_timer(tmp_path: Path) -> None:
    path, loop = tmp_path / "access", Loop()
    log = AccessLog(nonblocking.open_path(str(path)), loop, "web#0", "text")
    size = len(text_line("web#0", entry()))
    for _ in range(FLUSH_BYTES // size + 1):
        log.add(entry())
    assert path.stat().st_size >= FLUSH_BYTES


def test_the_end_writes_what_is_left(tmp_path: Path) -> None:
    path, loop = tmp_path / "access", Loop()
    log = AccessLog(nonblocking.open_path(str(path)), loop, "web#0", "json")
    log.add(entry())
    log.close()
    assert json.loads(path.read_bytes())["target"] == "/a?b=c"
    assert loop.armed is None


def test_what_a_reader_does_not_take_waits_up_to_a_bound(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = pipe
    loop = Loop()
    log = AccessLog(writer, loop, "web#0", "text")
    size, total = len(text_line("web#0", entry())), 5000
    for _ in range(total):
        log.add(entry())
    assert len(log._lines) <= MOST_BYTES
    assert "access log: 1 lines are lost: they are not read" in caplog.text
    assert caplog.text.count("are lost") == 1, "not for every line"
    read = b""
    while loop.armed:
        read += everything(reader)
        loop.tick()
        if log.lost:
            log._next_report = 0.0
    read += everything(reader)
    lines = read.splitlines()
    assert len(set(map(len, lines))) == 1, "each of them whole"
    told = sum(int(number) for number in re.findall(r"(\d+) lines are lost", caplog.text))
    assert len(lines) + told == total
    assert len(lines) * size > MOST_BYTES


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_full_disk_costs_lines_and_nothing_else(
    style: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = AccessLog(os.open("/dev/full", os.O_WRONLY), Loop(), "web#0", style)
    for _ in range(1000):
        log.add(entry())
    log.close()
    assert "No space left on device" in caplog.text
    assert sum(int(number) for number in re.findall(r"(\d+) lines are lost", caplog.text)) == 1000


def test_a_reader_that_has_gone_costs_lines(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = pipe
    os.dup2(os.open(os.devnull, os.O_RDONLY), reader)
    log = AccessLog(writer, Loop(), "web#0", "text")
    log.add(entry())
    log.flush()
    assert "access log: 1 lines are lost: Broken pipe" in caplog.text


def test_lines_of_two_processes_do_not_mix_in_a_pipe(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    logs = [AccessLog(writer, Loop(), name, "text") for name in ("a#0", "b#0")]
    for number in range(60):
        for log in logs:
            log.add(entry(head=b"GET /%d HTTP/1.1\r\n\r\n" % number))
    for log in logs:
        log.flush()
    lines = everything(reader).decode().splitlines(keepends=True)
    assert len(lines) == 120
    assert all(COMBINED.fullmatch(line) for line in lines)
