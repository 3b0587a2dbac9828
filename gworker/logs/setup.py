"""Where log lines go: descriptors that every process of an instance shares, and how the lines look.

    [2026-11-23 10:00:00 +0000] [4711] [INFO] chat#0 is ready
    {"time": "2026-11-23T10:00:00.000+00:00", "level": "info", "pid": 4711, "process": "chat#0", …}

Writing to a descriptor, not to a file object, lets the arbiter reopen the file for everybody: a
worker process gets the new descriptor and puts it in place of the old one. How a line is written
without waiting is `sink`'s; what repeats itself is counted by `repeats`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gworker.config.parsers import STDOUT
from gworker.config.settings import Settings
from gworker.logs import text as log_text
from gworker.logs.nonblocking import Sink, open_path, unshared
from gworker.logs.rate_limit import BURST, Repeats
from gworker.logs.text import cut
from gworker.system.tracebacks import from_target_on

log = logging.getLogger("gworker")

TIME = "%Y-%m-%d %H:%M:%S %z"

ARBITER = "arbiter"
ARBITERS_BURST = 100
"""The arbiter tells of every process with the same words, and all of them may die at once."""


class DescriptorHandler(logging.Handler):
    """Write each record with one write(2), so that lines of different processes do not mix."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.lost = 0
        """Records that could not be written since the last one that could."""
        self._sink = Sink(descriptor)

    @property
    def descriptor(self) -> int:
        """Where the lines go."""
        return self._sink.descriptor

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
        """Write `record`; a full disk, a closed terminal or a pipe that is not read must not stop
        the server."""
        try:
            line = self._line(record)
        except Exception:  # arguments that do not fit their template
            record.msg, record.args = f"cannot be formatted: {record.msg!r}", ()
            line = self._line(record)
        notice = self._notice()
        written = self._write(
            notice + line
        )  # together: the notice alone would use up what little room there is
        if written and written >= len(notice):
            self.lost = 0
        if written < len(notice) + len(line):
            self.lost += 1

    def confess(self) -> None:
        """Say how many records were lost, if any were."""
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
            return self._sink.write(lines)
        except OSError:
            return 0


HintFor = Callable[[BaseException | None], str | None]
"""What returns a line to show below the traceback of an error; None: nothing to add."""


class HintingFormatter(logging.Formatter):
    """Tracebacks that end with what to do, where the error itself does not say it."""

    def __init__(self, template: str | None, time: str | None, hint_for: HintFor) -> None:
        super().__init__(template, time)
        self._hint_for = hint_for

    def formatException(self, ei: Any) -> str:
        """The traceback from the target's first frame on, and the hint below it."""
        text = super().formatException((ei[0], ei[1], from_target_on(ei[2])))
        hint = self._hint_for(ei[1])
        return f"{text}\n{hint}" if hint else text


class TextFormatter(HintingFormatter):
    """`[time] [pid] [LEVEL] message`, then the traceback, indented."""

    def __init__(self, hint_for: HintFor) -> None:
        super().__init__("[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s", TIME, hint_for)

    def format(self, record: logging.LogRecord) -> str:
        """One record, which nothing in it can make look like several."""
        return log_text.record(super().format(record))


class JsonFormatter(HintingFormatter):
    """One JSON object in one line of ASCII, whatever the message contains."""

    def __init__(self, hint_for: HintFor) -> None:
        super().__init__(None, None, hint_for)

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


FORMATS: dict[str, Callable[[HintFor], logging.Formatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
}
"""By the value of --log-format."""

_process = [ARBITER]
_repeats: list[Repeats] = []
"""Of this process: its name, and its filter."""


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
    _count_repeats(handler, logging.WARNING, ARBITERS_BURST)
    # Not a handler of the root logger: that would make the application's logging.basicConfig() do
    # nothing.
    logging.lastResort = _handler(descriptor, formatter, logging.WARNING)


def _handler(
    descriptor: int, formatter: logging.Formatter, level: int = logging.NOTSET
) -> logging.Handler:
    handler = DescriptorHandler(descriptor)
    handler.setLevel(level)
    handler.setFormatter(formatter)
    return handler


def _count_repeats(handler: logging.Handler, floor: int, burst: int) -> None:
    for old in _repeats:
        handler.removeFilter(old)
    _repeats[:] = [Repeats(log, handler.handle, floor, burst)]
    handler.addFilter(_repeats[0])


def set_process_name(process: str) -> None:
    """In a forked child: `process` is its name from now on. What peers cause here is counted at
    every level."""
    _process[0] = process
    for handler in log.handlers:
        if isinstance(handler, DescriptorHandler):
            handler.lost = 0
            _count_repeats(handler, logging.NOTSET, BURST)


def enable() -> None:
    """After code of the application: what sets up its logging disables all loggers that it does not
    name."""
    log.disabled = False


def tick() -> None:
    """To be called about once a second: tell what repeated itself."""
    enable()
    for repeats in _repeats:
        repeats.tick()


def flush() -> None:
    """At the end of the process: tell what repeated itself, or was lost, and was not told yet."""
    for repeats in _repeats:
        repeats.flush()
    for handler in log.handlers:
        if isinstance(handler, DescriptorHandler):
            handler.confess()


def write_past_logging(text: str) -> None:
    """Write `text`, at once: for signal handlers and threads of the system, which may take no lock
    of logging's.

    It is a record all the same.
    """
    pid, now = os.getpid(), datetime.now().astimezone()
    for handler in log.handlers:
        if isinstance(handler, DescriptorHandler):
            if isinstance(handler.formatter, JsonFormatter):
                time = now.isoformat(timespec="milliseconds")
                fields = {
                    "time": time,
                    "level": "error",
                    "pid": pid,
                    "process": _process[0],
                    "message": cut(text),
                }
                line = json.dumps(fields)
            else:
                line = log_text.record(f"[{now.strftime(TIME)}] [{pid}] [ERROR] {text}")
            with suppress(OSError):
                Sink(handler.descriptor).write((line + "\n").encode(errors="backslashreplace"))


# ---- the files


@dataclass(frozen=True, slots=True)
class Outputs:
    """The descriptors that all processes of an instance write to."""

    log: int
    access: int | None = None
    """The access log's; None: there is none."""

    def reopened(self, settings: Settings) -> list[tuple[int, int]]:
        """Open the files anew: (descriptor in use, new descriptor) pairs. Raises OSError; then none
        is open."""
        pairs: list[tuple[int, int]] = []
        try:
            if settings.stdout_file is not None:
                pairs.append((1, _open_standard(settings.stdout_file)))
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
        """`path`, or what has become of standard output, if `used` is a descriptor of our own for
        that."""
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
    """A further descriptor for the same file, which never waits if that can be had."""
    own = unshared(descriptor)
    return own if own != descriptor else os.dup(descriptor)


def _open_standard(path: str) -> int:
    """For stdout and stderr, which are the user's: who writes there expects to wait."""
    descriptor = open_path(path)
    os.set_blocking(descriptor, True)
    return descriptor
