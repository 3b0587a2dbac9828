"""What repeats itself is counted: the first ones in full, then their number, and nothing unsaid."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest
from http_cases import INVALID

from gworker.errors import ProtocolError
from gworker.logs.rate_limit import BURST, MAX_TEXT, MOST, WINDOW, RateLimit
from gworker.protocols import NEED_DATA, PackageProtocol, Protocol, get
from gworker.protocols.http.protocol import HttpProtocol


class Log:
    """A logger of its own with a clock that is set."""

    def __init__(self, floor: int = logging.NOTSET) -> None:
        self.now = 100.0
        self.lines: list[tuple[str, str]] = []
        self.logger = logging.Logger("limited")  # noqa: LOG001  one that nothing else configures
        handler = logging.Handler()
        handler.emit = self._emit  # type: ignore[method-assign]
        self.limit = RateLimit(self.logger, handler.handle, floor, clock=lambda: self.now)
        handler.addFilter(self.limit)
        self.logger.addHandler(handler)

    def _emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage()))

    def taken(self) -> list[str]:
        """What was logged since the last call."""
        lines, self.lines = self.lines, []
        return [text for _, text in lines]

    def sleep(self, seconds: float) -> None:
        """With a tick each second."""
        for _ in range(int(seconds)):
            self.now += 1
            self.limit.tick()


@pytest.fixture
def log() -> Log:
    return Log()


def fails(
    log: Log, function: Callable[[], object], words: str = "exception in %s", *arguments: object
) -> None:
    try:
        function()
    except Exception:
        log.logger.exception(words, *(arguments or ("on_message",)))


def one() -> None:
    raise ValueError


def other() -> None:
    raise ValueError


def test_the_first_are_told_in_full_and_the_others_in_one_line(log: Log) -> None:
    for number in range(1000):
        log.logger.error("peer %d", number)
    assert log.taken() == [f"peer {number}" for number in range(BURST)]
    log.sleep(WINDOW - 1)
    assert log.taken() == []
    log.sleep(1)
    assert log.lines == [("ERROR", f"peer 0: repeated {1000 - BURST} times in the last 10.0 s")]


def test_a_few_are_no_repetition(log: Log) -> None:
    for _ in range(BURST):
        log.logger.error("a few")
    log.sleep(3 * WINDOW)
    log.limit.flush()
    assert log.taken() == ["a few"] * BURST


def test_what_goes_on_and_on_takes_two_lines_in_a_window(log: Log) -> None:
    for second in range(100):
        for _ in range(50):
            log.logger.error("again")
        if second == 9:
            log.taken()
        log.sleep(1)
    lines = log.taken()
    assert len(lines) <= 2 * 10
    told = sum(int(line.split("repeated ")[1].split()[0]) for line in lines if "repeated" in line)
    assert told + sum(line == "again" for line in lines) == 5000 - BURST, "every single one"


def test_after_a_quiet_window_it_is_told_in_full_again(log: Log) -> None:
    for _ in range(2 * BURST):
        log.logger.error("again")
    log.sleep(3 * WINDOW)
    log.taken()
    for _ in range(2 * BURST):
        log.logger.error("again")
    assert log.taken() == ["again"] * BURST


def test_without_ticks_the_number_is_told_with_the_next_one(log: Log) -> None:
    for _ in range(BURST + 5):
        log.logger.error("again")
    log.taken()
    log.now += 25
    log.logger.error("again")
    assert log.taken() == ["again: repeated 5 times in the last 25.0 s", "again"]


def test_without_ticks_what_goes_on_is_told_in_full_once_in_a_window(log: Log) -> None:
    for _ in range(BURST + 5):
        log.logger.error("again")
    log.taken()
    log.now += 12
    for _ in range(3):
        log.logger.error("again")
    assert log.taken() == ["again: repeated 5 times in the last 12.0 s", "again"]


def test_at_the_end_the_number_is_told(log: Log) -> None:
    for _ in range(BURST + 7):
        log.logger.error("again")
    log.taken()
    log.now += 2.5
    log.limit.flush()
    assert log.taken() == ["again: repeated 7 times in the last 2.5 s"]
    log.limit.flush()
    assert log.taken() == []


@pytest.mark.parametrize(
    "differs",
    [
        lambda log: fails(log, other),
        lambda log: fails(log, one, "exception in a timer: %s"),
        lambda log: fails(log, lambda: 1 / 0),
        lambda log: log.logger.error("exception in %s", "on_message"),
        lambda log: log.logger.warning("exception in %s", "on_message"),
    ],
    ids=["place", "template", "type", "no exception", "level"],
)
def test_another_message_is_another_message(log: Log, differs: Callable[[Log], None]) -> None:
    for _ in range(BURST + 1):
        fails(log, one)
    log.taken()
    differs(log)
    assert len(log.taken()) == 1


def test_other_arguments_do_not_make_another_message(log: Log) -> None:
    for number in range(BURST + 1):
        fails(log, one, "%r failed", number)
    assert len(log.taken()) == BURST
    log.limit.flush()
    (line,) = log.taken()
    assert line.startswith("0 failed (ValueError at ")
    assert "test_rate_limit.py:" in line


def test_memory_is_bounded_and_what_is_forgotten_is_told(log: Log) -> None:
    for _ in range(BURST + 3):
        log.logger.error("the first")
    log.taken()
    for number in range(MOST):
        log.logger.error(f"template {number}")  # noqa: G004
    lines = log.taken()
    assert len(lines) == MOST + 1
    assert lines[MOST - 1].startswith("the first: repeated 3 times")
    assert len(log.limit._windows) == MOST


def test_the_line_that_tells_is_a_short_one(log: Log) -> None:
    for _ in range(BURST + 1):
        log.logger.error("%s\nsecond line", "x" * 10_000)
    log.taken()
    log.limit.flush()
    (line,) = log.taken()
    assert line == "x" * MAX_TEXT + ": repeated 1 times in the last 0.1 s"


def test_below_the_floor_nothing_is_counted() -> None:
    log = Log(floor=logging.WARNING)
    for _ in range(5 * BURST):
        log.logger.info("news")
        log.logger.warning("trouble")
    lines = log.taken()
    assert (lines.count("news"), lines.count("trouble")) == (5 * BURST, BURST)


# ---- faults that are only named


def refusals(protocol: type[Protocol], *inputs: bytes) -> list[ProtocolError]:
    found = []
    for data in inputs:
        machine = protocol(1000)
        machine.receive_data(data)
        with pytest.raises(ProtocolError) as refused:
            while machine.next_event() is not NEED_DATA:
                pass
        found.append(refused.value)
    return found


def fixed_part(text: str) -> str:
    """What of a text no peer can choose, roughly."""
    return re.split(r"[0-9'\"]", text)[0]


class Own(PackageProtocol):
    """One that raises all its errors in one function."""

    name = "own"

    def package_length(self, buffer: bytes | bytearray) -> int | None:
        if buffer[0] > 0x7F:
            self.fail("not ASCII")
        if buffer[0] == 0:
            self.fail("a zero")
        return 1

    def decode(self, package: bytes) -> bytes:
        return package

    def fail(self, why: str) -> None:
        raise ProtocolError(why)


def test_different_faults_of_peers_are_told_apart(log: Log) -> None:
    faults = refusals(HttpProtocol, *(case.raw for case in INVALID))
    faults += refusals(Own, b"\xff", b"\0")
    faults += refusals(get("frame"), b"\0\0\0\x01", b"\xff\xff\xff\xff")
    texts = {fixed_part(str(fault)) for fault in faults}
    for fault in faults:
        for _ in range(2 * BURST):
            log.logger.info("%r: %s", "connection", fault)
    told = {fixed_part(line.partition(": ")[2]) for line in log.taken()}
    assert told | {""} == texts | {""}  # one begins with a number
    assert len(texts) > 25


def test_what_a_peer_chooses_makes_no_kind_of_its_own(log: Log) -> None:
    for number in range(500):
        (fault,) = refusals(
            HttpProtocol, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: %dx\r\n\r\n" % number
        )
        log.logger.info("%r: %s", f"connection {number}", fault)
        (fault,) = refusals(
            HttpProtocol,
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%dx" % number
            + b"\r\n",
        )
        log.logger.info("%r: %s", f"connection {number}", fault)
    assert len(log.taken()) == 2 * BURST


class OfAnApplication(Exception):
    """Its attributes have names that those of gworker have as well."""

    def __init__(self) -> None:
        self.status = {"code": 7}

    @property
    def kind(self) -> str:
        raise RuntimeError("not known yet")


def test_an_exception_of_the_application_may_have_any_attributes(log: Log) -> None:
    def fault() -> None:
        raise OfAnApplication

    fails(log, fault)
    fails(log, fault, "failed with %s", OfAnApplication())
    assert log.taken() == ["exception in on_message", "failed with "]


def test_a_circle_of_causes_ends(log: Log) -> None:
    def fault() -> None:
        first, second = ValueError("one"), KeyError("two")
        first.__context__, second.__context__ = second, first
        raise first

    fails(log, fault)
    assert log.taken() == ["exception in on_message"]


def test_a_kind_is_told_apart(log: Log) -> None:
    for _ in range(2 * BURST):
        for reason in ("no TLS", "no cipher suite in common"):
            log.logger.info("TLS handshake with %s: %s", "1.2.3.4", reason, extra={"kind": reason})
    assert len(log.taken()) == 2 * BURST
