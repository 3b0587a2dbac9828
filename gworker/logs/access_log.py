"""The access log: a line for every HTTP exchange, and one for every other connection when it has
closed.

    192.0.2.7 - - [23/Nov/2026:10:00:00 +0000] "GET /x HTTP/1.1" 200 512 "-" "curl/8.5.0"
        ms=3.214 worker="web#0"                                      (all of it in one line)

Each worker process gathers its lines and writes them at once, when there are FLUSH_BYTES of them or
after FLUSH_SECONDS; the timer runs only while there are some. Nothing here waits or raises: lines
that the system does not take are counted, and the log has their number.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from os import getpid
from time import localtime, monotonic, strftime, time
from typing import Protocol

from gworker.logs.nonblocking import NEWLINE, LineWriter, is_pipe
from gworker.system.event_loop import Loop

log = logging.getLogger("gworker")

FLUSH_BYTES = 16384
FLUSH_SECONDS = 1.0

MOST_BYTES = 262144  # what may wait for a reader that does not read; further lines are lost

REPORT_SECONDS = 10.0  # between two reports of lines that were lost

# Characters of a request line, and of a header field, after escaping: so that a line of text fits
# PIPE_BUF.
MAX_LINE = 2000
MAX_FIELD = 600

# Not strftime's %b: user code may have set a locale.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_encode = json.JSONEncoder().encode
_UNSAFE = re.compile(r'[^\x20-\x7e]|["\\]')


class CustomFormat(Protocol):
    """What makes a line in a format of one's own (`logs.access_format`)."""

    @property
    def of_connections(self) -> bool: ...
    @property
    def wants_answer(self) -> bool: ...
    def __call__(self, worker: str, entry: Entry) -> bytes: ...


class AccessLog:
    """The access log of one worker process. `worker`: its name as in the process title,
    `chat#0`. style: text or json. custom: for what it is for, in place of that."""

    def __init__(
        self,
        descriptor: int,
        loop: Loop,
        worker: str,
        style: str,
        custom: CustomFormat | None = None,
    ) -> None:
        self.worker = worker
        self.lost = 0  # lines that could not be written and were not reported yet
        self._writer = LineWriter(descriptor)
        self._format = FORMATS[style]
        self._custom = custom
        self._lines = bytearray()
        self._timer = loop.timer(FLUSH_SECONDS, FLUSH_SECONDS)
        self._next_report = 0.0
        self._why = ""

    @property
    def wants_answer(self) -> bool:
        """True if entries need the heads of answers."""
        return self._custom is not None and self._custom.wants_answer

    def add(self, entry: Entry) -> None:
        try:
            custom = self._custom
            is_custom = custom is not None and (entry.head or custom.of_connections)
            line = (custom if is_custom and custom else self._format)(self.worker, entry)
        except Exception:  # a fault of ours must not cost the connection
            log.exception("access log: a line cannot be formatted")
            return
        lines = self._lines
        before = len(lines)
        if before + len(line) > MOST_BYTES:
            self._lose(1, "they are not read")
            return
        lines += line
        if not before:
            self._timer.again(self._tick)
        if before < FLUSH_BYTES <= len(lines):
            self.flush()

    def _tick(self) -> None:
        self.flush()
        self._report()
        if not self._lines and not self.lost:
            self._timer.stop()

    def flush(self) -> None:
        """Write what is there. What would have to wait is kept; what cannot be written is lost, and
        counted."""
        lines = self._lines
        try:
            while lines:
                part = self._part()
                taken = self._writer.write(part)
                if 0 < taken < len(part) and part[taken - 1] != NEWLINE:
                    taken = (
                        part.find(b"\n", taken) + 1
                    )  # the rest of a line that was cut is of no use
                    self._lose(1, "the system took no more")
                del lines[:taken]
        except BlockingIOError:
            return
        except OSError as error:
            lost = lines.count(b"\n")
            lines.clear()
            self._lose(lost, str(error.strerror))

    def _part(self) -> bytes:
        # All of it; for a pipe what it takes as a whole: other processes write there too.
        lines = self._lines
        if len(lines) <= select.PIPE_BUF or not is_pipe(self._writer.descriptor):
            return bytes(lines)
        end = lines.rfind(b"\n", 0, select.PIPE_BUF) + 1
        return bytes(lines[: end or lines.find(b"\n") + 1])

    def _lose(self, lines: int, why: str) -> None:
        self.lost += lines
        self._why = why
        self._report()

    def _report(self) -> None:
        now = monotonic()
        if self.lost and now >= self._next_report:
            self._next_report = now + REPORT_SECONDS
            log.warning("access log: %d lines are lost: %s", self.lost, self._why)
            self.lost = 0

    def let_go(self) -> None:
        self._lines.clear()
        self._timer.stop()
        self._writer = LineWriter(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """The process ends: write what can be written, and log what is lost."""
        self.flush()
        self._next_report = 0.0
        self._lose(self._lines.count(b"\n"), self._why or "they are not read")
        self._lines.clear()
        self._timer.stop()


# ---- how lines look


@dataclass(slots=True)
class Entry:
    """What a line shows. Bytes and seconds."""

    protocol: str
    ip: str  # the client's, which may be another one than `remote` has; "" for a unix socket
    remote: str  # as `connection.remote_address`
    head: bytes  # of the request, perhaps incomplete; b"" if the protocol has none
    status: int  # 0: none
    sent: int  # to the peer: of an answer to a request, its body
    seconds: float
    aborted: bool = False  # the peer did not get all of it
    received: int | None = None  # None: not shown, this is one exchange of many
    close_code: int = 0
    close_reason: str = ""
    answer: bytes = b""  # the head of the answer, for a format that shows fields of it


def text_line(worker: str, entry: Entry) -> bytes:
    """The combined format, then `key=value`. Nothing that a peer sends can end a line or a
    field."""
    line, fields = (
        _quoted(entry.head) if entry.head else (f'"{safe(entry.protocol, MAX_FIELD)}"', '"-" "-"')
    )
    text = (
        f"{entry.ip or 'unix'} - - [{stamp(int(time()))}] {line} {entry.status or '-'} "
        f"{entry.sent} {fields}"
        f' ms={entry.seconds * 1000:.3f} worker="{safe(worker, MAX_FIELD)}"'
    )
    if entry.received is not None:
        text += f" in={entry.received}"
    if entry.close_code:
        text += f' close={entry.close_code} reason="{safe(entry.close_reason, MAX_FIELD)}"'
    return (text + "\n").encode()


def json_line(worker: str, entry: Entry) -> bytes:
    """One object in one line of ASCII."""
    now = time()
    second = int(now)
    date, zone = _iso(second)
    fields: dict[str, object] = {
        "time": f"{date}.{int((now - second) * 1000):03}{zone}",
        "pid": getpid(),
        "process": worker,
        "protocol": entry.protocol,
        "remote": entry.remote or "unix",
    }
    if entry.ip and entry.ip not in entry.remote:
        fields["client"] = entry.ip
    line, referer, agent = _request_of(entry.head)
    if entry.head:
        parts = line.split(" ")
        names = ("method", "target", "version") if len(parts) == 3 else ("request",)
        values = (*parts[:2], parts[2].removeprefix("HTTP/")) if len(parts) == 3 else (line,)
        fields |= {name: value[:MAX_LINE] for name, value in zip(names, values, strict=True)}
    if entry.status:
        fields["status"] = entry.status
    fields |= {"bytes_sent": entry.sent, "ms": round(entry.seconds * 1000, 3)}
    if entry.received is not None:
        fields["bytes_received"] = entry.received
    if entry.head:
        fields |= {"referer": referer[:MAX_FIELD], "user_agent": agent[:MAX_FIELD]}
    if entry.close_code:
        fields |= {"close_code": entry.close_code, "close_reason": entry.close_reason}
    if entry.aborted:
        fields["aborted"] = True
    return _encode(fields).encode() + b"\n"


# By the value of --log-format.
FORMATS: dict[str, Callable[[str, Entry], bytes]] = {"text": text_line, "json": json_line}


def _quoted(head: bytes) -> tuple[str, str]:
    # Request line, and Referer and User-Agent, as they stand in a line of text.
    line, referer, agent = _request_of(head)
    fields = f'"{safe(referer, MAX_FIELD) or "-"}" "{safe(agent, MAX_FIELD) or "-"}"'
    return f'"{safe(line, MAX_LINE) or "-"}"', fields


def _request_of(head: bytes) -> tuple[str, str, str]:
    lower = head.lower()
    return (
        request_line(head),
        field_of(head, lower, b"\r\nreferer:"),
        field_of(head, lower, b"\r\nuser-agent:"),
    )


def request_line(head: bytes) -> str:
    """The first line of a head, which may be incomplete."""
    line = head[: head.find(b"\r\n")] if b"\r\n" in head else head
    return line.decode("latin-1")


def field_of(head: bytes, lower: bytes, name: bytes) -> str:
    """The value of the first header field of this name, which is in lower case and has `\\r\\n`
    before it; "" if there is none. Half as dear as a regular expression."""
    start = lower.find(name)
    if start < 0:
        return ""
    start += len(name)
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else len(head)].strip(b" \t").decode("latin-1")


def safe(text: str, most: int) -> str:
    """`text` without quotes, controls and what is not ASCII, those escaped; cut after `most`
    characters."""
    if not (text.isascii() and text.isprintable()) or '"' in text or "\\" in text:
        text = _UNSAFE.sub(_escape, text[:most])
    return text if len(text) <= most else text[:most] + "..."


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return (
        f"\\{found[0]}"
        if found[0] in '"\\'
        else f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{{{code:x}}}"
    )


@lru_cache(maxsize=2)
def _iso(second: int) -> tuple[str, str]:
    # Date and time, and zone, of ISO 8601.
    text = datetime.fromtimestamp(second).astimezone().isoformat()
    return text[:19], text[19:]


@lru_cache(maxsize=2)
def stamp(second: int) -> str:
    """A time of day, in seconds since 1970, as the combined format has it."""
    now = localtime(second)
    return f"{now.tm_mday:02}/{MONTHS[now.tm_mon - 1]}/{now.tm_year}:{strftime('%H:%M:%S %z', now)}"
