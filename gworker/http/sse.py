"""Server-Sent Events (WHATWG HTML section 9.2): text/event-stream."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gworker.http.headers import Headers, HeaderSource
from gworker.http.json import to_json
from gworker.http.streaming import IterBody

_LINE_END = re.compile(r"\r\n|\r|\n")
_NOT_IN_LINE = re.compile(r"[\r\n\0]")


class Event:
    """One event.

    data: a str, of any number of lines; anything else is sent as JSON. event: its type, "message"
    if not given. id: what the browser sends as Last-Event-ID when it connects again. retry:
    milliseconds it waits before. ValueError for what would end its line, also when it is assigned
    later.
    """

    __slots__ = ("data", "event", "id", "retry")

    def __init__(
        self,
        data: object = None,
        event: str | None = None,
        id: str | int | None = None,
        retry: int | None = None,
    ) -> None:
        self.data = data
        self.event = event
        self.id = id
        self.retry = retry

    def __setattr__(self, name: str, value: object) -> None:
        if value is not None:
            if name in ("event", "id") and _NOT_IN_LINE.search(str(value)):
                raise ValueError(f"the {name} of an event is one line without NUL, not {value!r}")
            if name == "retry" and (not isinstance(value, int) or value < 0):
                raise ValueError(f"retry is a number of milliseconds from 0, not {value!r}")
        super().__setattr__(name, value)

    def encode(self) -> bytes:
        named = (("event", self.event), ("id", self.id), ("retry", self.retry))
        lines = [f"{name}: {value}" for name, value in named if value is not None]
        if self.data is not None:
            text = self.data if isinstance(self.data, str) else to_json(self.data).decode()
            lines += [f"data: {line}" for line in _LINE_END.split(text)]
        return "\n".join([*lines, "", ""]).encode()


class EventBody(IterBody):
    __slots__ = ("keep_alive",)

    ends_with_peer = True
    filler = b":\n\n"

    def __init__(self, events: Iterable[object], keep_alive: float) -> None:
        super().__init__(events)
        self.keep_alive = keep_alive

    def encode(self, part: object) -> bytes:
        if not isinstance(part, Event):
            part = Event(**part) if isinstance(part, dict) else Event(part)
        return bytes(part.encode())


def event_fields(headers: HeaderSource) -> Headers:
    fields = Headers(headers)
    fields["Content-Type"] = "text/event-stream"
    fields.setdefault("Cache-Control", "no-cache")
    fields.setdefault("X-Accel-Buffering", "no")  # nginx passes each event on at once
    return fields
