"""Server-sent events: their text, and their end."""

from __future__ import annotations

from typing import Any

import pytest
from responses import streamed

from gworker.http import Event, Response


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (Event("a"), "data: a\n\n"),
        (Event("a\nb\r\nc\rd\n"), "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
        (Event(""), "data: \n\n"),
        (Event({"a": "é"}), 'data: {"a": "é"}\n\n'),
        (Event(["\ud800é"]), 'data: ["\\ud800\\u00e9"]\n\n'),
        (
            Event("x", event="tick", id=7, retry=1000),
            "event: tick\nid: 7\nretry: 1000\ndata: x\n\n",
        ),
        (Event(retry=5), "retry: 5\n\n"),
    ],
)
def test_event(event: Event, lines: str) -> None:
    assert event.encode() == lines.encode()


@pytest.mark.parametrize(
    "wrong", [{"event": "a\nb"}, {"id": "a\rb"}, {"id": "\0"}, {"retry": -1}, {"retry": "5"}]
)
def test_events_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"line|milliseconds"):
        Event("x", **wrong)
    event = Event("x")
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=r"line|milliseconds"):
            setattr(event, name, value)
    assert event.encode() == b"data: x\n\n"


def test_events_of_all_kinds_and_their_end() -> None:
    closed = []

    def source():
        try:
            yield from ["a", {"data": "b", "id": 1}, Event("c")]
            yield "d"
        finally:
            closed.append(True)

    response = Response.events(source(), {"X-A": "b"}, keep_alive=5)
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-cache"
    parts = streamed(response).parts()
    assert [next(parts) for _ in range(3)] == [
        b"data: a\n\n",
        b"id: 1\ndata: b\n\n",
        b"data: c\n\n",
    ]
    parts.close()
    assert closed == [True]
