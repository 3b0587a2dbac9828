"""Where log lines go: descriptors that every process of an instance shares, and how the lines look.

    [2026-11-23 10:00:00 +0000] [4711] [INFO] chat#0 is ready
    {"time": "2026-11-23T10:00:00.000+00:00", "level": "info", "pid": 4711, "process": "chat#0", …}

Writing to a descriptor, not to a file object, lets the arbiter reopen the file for all processes: a
worker process gets the new descriptor and puts it in place of the old one. `nonblocking` writes a
line without waiting; `rate_limit` counts what repeats itself.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType

from gworker.config.parsers import STDOUT
from gworker.config.settings import Settings
from gworker.logs.nonblocking import LineWriter, open_path, unshared
from gworker.logs.rate_limit import BURST, RateLimit
from gworker.system.tracebacks import from_target_on

log = logging.getLogger("gworker")

TIME = "%Y-%m-%d %H:%M:%S %z"

ARBITER = "arbiter"
# The arbiter logs the same message for every process, and all of them may die at once.
ARBITERS_BURST = 100

MAX_RECORD = 262144  # characters of one record

END = 65536  # how many of them are its end, where a traceback says most

INDENT = "    "

# C0 but LF, DEL, C1, line and paragraph separators, and what turns the direction of writing.
_CONTROLS = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)

_SHORT = {"\t": r"\t", "\r": r"\r"}


class DescriptorHandler(logging.Handler):
    """Write each record with one write(2), so that lines of different processes do not mix."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.lost = 0  # records that could not be written since the last one that could
        self._writer = LineWriter(descriptor)
        self.limit_repeats(logging.WARNING, ARBITERS_BURST)

    def limit_repeats(self, floor: int, burst: int) -> None:
        """Count anew what repeats itself: records from level `floor` on, `burst` of the same."""
        self.limit = RateLimit(log, self.handle, floor, burst)
        self.filters = [self.limit]

    def handle(self, record: logging.LogRecord) -> bool:
        """As logging.Handler does, without its lock.

        gevent makes that one of its own, for which the event loop cannot wait: while a thread of
        the application logs, a record that is logged in the hub would raise. Each line is one
        write(2), which needs no lock.
        """
        passed = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record`. A full disk, a closed terminal or a pipe that is not read must not stop
        the server."""
        try:
            line = self._line(record)
        except Exception:  # arguments that do not fit their template
            record.msg, record.args = f"cannot be formatted: {record.msg!r}", ()
            line = self._line(record)
        notice = self._notice()
        # Together: the notice alone would use up what little room there is.
        written = self._write(notice + line)
        if written and written >= len(notice):
            self.lost = 0
        if written < len(notice) + len(line):
            self.lost += 1

    def write_at_once(self, record: logging.LogRecord) -> None:
        """Write `record` without filters. From any thread, or the handler of a signal."""
        self._write(self._line(record))

    def report_loss(self) -> None:
        """Log how many records were lost, if any were."""
        notice = self._notice()
        if notice and self._write(notice) == len(notice):
            self.lost = 0

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode(errors="backslashreplace")

    def _notice(self) -> bytes:
        if not self.lost:
            return b""
        text = f"{self.lost} log records before this one are lost: they could not be written"
        return self._line(log.makeRecord("gworker", logging.WARNING, __file__, 0, text, (), None))

    def _write(self, lines: bytes) -> int:
        try:
            return self._writer.write(lines)
        except OSError:
            return 0


ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
# What returns a line to show below the traceback of an error; None: nothing to add.
HintFor = Callable[[BaseException | None], str | None]


class HintingFormatter(logging.Formatter):
    """Tracebacks that end with what to do, where the error itself does not say it."""

    def __init__(self, hint_for: HintFor) -> None:
        super().__init__("[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s", TIME)
        self._hint_for = hint_for

    def formatException(self, ei: ExcInfo) -> str:
        """The traceback from the target's first frame on, and the hint below it."""
        kind, error, traceback = ei
        if kind is not None and error is not None:
            ei = kind, error, from_target_on(traceback)
        text = super().formatException(ei)
        hint = self._hint_for(error)
        return f"{text}\n{hint}" if hint else text


class TextFormatter(HintingFormatter):
    """`[time] [pid] [LEVEL] message`, then the traceback, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """One record, which looks like one whatever it contains."""
        return as_one_record(super().format(record))


class JsonFormatter(HintingFormatter):
    """One JSON object in one line of ASCII, whatever the message contains."""

    def format(self, record: logging.LogRecord) -> str:
        """Time (ISO 8601, with milliseconds and zone), level, pid, process, logger, message,
        exception."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created)
            .astimezone()
            .isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "pid": record.process,
            "process": _process[0],
            "logger": record.name,
            "message": cut(record.getMessage()),
        }
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = cut(self.formatException(record.exc_info))
        if record.stack_info:
            fields["stack"] = cut(self.formatStack(record.stack_info))
        if hasattr(record, "repeated"):
            fields["repeated"] = record.repeated
        return json.dumps(fields)


# By the value of --log-format.
FORMATS: dict[str, Callable[[HintFor], logging.Formatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
}

_process = [ARBITER]  # the name of this process


def configure(
    descriptor: int, level: str, style: str = "text", hint_for: HintFor = lambda _error: None
) -> None:
    """Send the log of this process to `descriptor`; and the warnings of user code that has set up
    no logging."""
    formatter = FORMATS[style](hint_for)
    handler = _handler(descriptor, formatter)
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False
    # Not a handler of the root logger: that would make the application's logging.basicConfig() do
    # nothing.
    logging.lastResort = _handler(descriptor, formatter, logging.WARNING)


def _handler(
    descriptor: int, formatter: logging.Formatter, level: int = logging.NOTSET
) -> DescriptorHandler:
    handler = DescriptorHandler(descriptor)
    handler.setLevel(level)
    handler.setFormatter(formatter)
    return handler


def set_process_name(process: str) -> None:
    """In a forked child: `process` is its name from now on. What peers cause there is limited at
    every level."""
    _process[0] = process
    for handler in _handlers():
        handler.lost = 0
        handler.limit_repeats(logging.NOTSET, BURST)


def _handlers() -> list[DescriptorHandler]:
    return [each for each in log.handlers if isinstance(each, DescriptorHandler)]


def enable() -> None:
    """After code of the application: what sets up its logging disables all loggers that it does not
    name."""
    log.disabled = False


def tick() -> None:
    """To be called about once a second: log what repeated itself."""
    enable()
    for handler in _handlers():
        handler.limit.tick()


def flush() -> None:
    """At the end of the process: log what repeated itself, or was lost, and was not logged yet."""
    for handler in _handlers():
        handler.limit.flush()
        handler.report_loss()


def write_past_logging(text: str) -> None:
    """Log `text` at once, as an error: for threads of the system and for what was just forked,
    which may take no lock of logging's."""
    # Not made by LogRecord(): that registers a thread of the system with `threading`.
    record = object.__new__(logging.LogRecord)
    vars(record).update(
        name="gworker", levelname="ERROR", msg=text, args=(), created=time.time(),
        process=os.getpid(), exc_info=None, exc_text=None, stack_info=None,
    )  # fmt: skip
    for handler in _handlers():
        handler.write_at_once(record)


# ---- text
#
# Peers choose paths, names and parts of what exceptions say: so no part of a record may look like
# another record, and none is endless.


def cut(text: str) -> str:
    """`text`; of one that is longer than MAX_RECORD, its beginning and its end."""
    left_out = len(text) - MAX_RECORD
    if left_out <= 0:
        return text
    return f"{text[: MAX_RECORD - END]}\n... {left_out} characters left out ...\n{text[-END:]}"


def as_one_record(text: str) -> str:
    """`text` as one line, or as that and indented ones that go on with it. Other controls are
    escaped."""
    text = _CONTROLS.sub(_escape, cut(text).rstrip("\n"))
    return text.replace("\n", "\n" + INDENT)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _SHORT.get(found[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


# ---- the files


@dataclass(frozen=True, slots=True)
class Outputs:
    """The descriptors that all processes of an instance write to."""

    log: int
    access: int | None = None  # The access log's; None: there is none.

    def reopened(self, settings: Settings) -> list[tuple[int, int]]:
        """Open the files anew: (descriptor in use, new descriptor) pairs. Raises OSError; then none
        is open."""
        pairs: list[tuple[int, int]] = []
        try:
            if settings.stdout_file is not None:
                pairs.append((1, open_path(settings.stdout_file)))
                os.set_blocking(pairs[0][1], True)  # the user's code that writes there may wait
                pairs.append((2, os.dup(pairs[0][1])))
            stdout = pairs[0][1] if pairs else None
            self._reopen(pairs, self.log, settings.log_file, stdout)
            if self.access is not None:
                path = settings.access_log if settings.access_log != STDOUT else None
                self._reopen(pairs, self.access, path, stdout)
        except OSError:
            for _, new in pairs:
                os.close(new)
            raise
        return pairs

    def _reopen(
        self, pairs: list[tuple[int, int]], used: int, path: str | None, standard: int | None
    ) -> None:
        # `path`, or what has become of standard output, if `used` is a descriptor of our own for
        # that.
        if path is not None:
            pairs.append((used, open_path(path)))
        elif standard is not None and used > 2:
            pairs.append((used, _twin(standard)))


def open_outputs(settings: Settings, standard: int | None = None) -> Outputs:
    """Open the log files; the log goes to stderr if it has none. Raises OSError if one cannot be
    opened.

    standard: what stdout and stderr are going to be replaced by.
    """
    if settings.log_file is not None:
        descriptor = open_path(settings.log_file)
    else:
        stderr = 2 if standard is None else standard
        descriptor = own if (own := unshared(stderr)) != stderr else 2
    if settings.access_log is None:
        return Outputs(descriptor)
    stdout = 1 if standard is None else standard
    return Outputs(
        descriptor,
        _twin(stdout) if settings.access_log == STDOUT else open_path(settings.access_log),
    )


def replace(pairs: list[tuple[int, int]]) -> None:
    """Put each new descriptor in place of the one in use."""
    for descriptor, new in pairs:
        os.dup2(new, descriptor, inheritable=descriptor <= 2)
        os.close(new)


def _twin(descriptor: int) -> int:
    # A further descriptor for the same file, which never waits if that can be had.
    own = unshared(descriptor)
    return own if own != descriptor else os.dup(descriptor)
