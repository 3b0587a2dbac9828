"""The corpus: every valid request means what it says, every invalid one is refused, however they
are cut."""

from __future__ import annotations

import re

import pytest
from http_cases import INVALID, SMUGGLED, TWICE_INVALID, UNFINISHED, VALID

from gworker.protocols import EOF
from gworker.protocols.http.protocol import HttpProtocol

LIMIT = 100_000
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


def make() -> HttpProtocol:
    return HttpProtocol(LIMIT)


def streaming() -> HttpProtocol:
    """One that would hand out bodies in pieces, were they longer."""
    protocol = HttpProtocol(LIMIT)
    protocol.configure({"stream_above": LIMIT})
    return protocol


def named(case) -> str:
    return f"{case.section}: {case.name}"


@pytest.mark.parametrize("case", VALID, ids=named)
def test_valid(drive, case):
    meant = (case.method, case.target, case.body)
    transcript = drive.every_way(make, case.raw)
    assert (transcript.error, transcript.events[0]) == (None, meant)
    # What follows is another request, whatever is in this one; unless this was the last.
    trailing = drive.every_way(make, case.raw + NEXT)
    assert trailing.events in ([meant, ("GET", "/next", b"")], [meant, EOF])
    assert b"close" in trailing.output or trailing.events[1] is not EOF
    assert drive(streaming(), [case.raw]).events[0] == meant


@pytest.mark.parametrize("case", INVALID, ids=named)
def test_invalid(drive, case):
    """Refused with its status; nothing that follows is taken for a request."""
    for raw in (case.raw, case.raw + SMUGGLED):
        transcript = drive.every_way(make, raw)
        assert transcript.error is not None
        assert transcript.events == []
        assert re.match(rb"HTTP/1\.1 %d [^\r]+\r\n" % case.status, transcript.output), (
            transcript.output[:100]
        )
        assert b"Connection: close\r\n" in transcript.output
    if case.status != 413:  # a streamed body may be longer
        assert drive(streaming(), [case.raw]).error is not None


@pytest.mark.parametrize("case", TWICE_INVALID, ids=named)
def test_twice_invalid(drive, case):
    for size in (1, 3, 1000):
        pieces = [case.raw[at : at + size] for at in range(0, len(case.raw), size)]
        transcript = drive(make(), [*pieces, SMUGGLED])
        assert transcript.events == []
        assert transcript.output[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 %d " % case.status)


@pytest.mark.parametrize("case", UNFINISHED, ids=named)
def test_unfinished(drive, case):
    assert drive.every_way(make, case.raw).error is None
    transcript = drive.every_way(make, case.raw, end=True)
    assert transcript.events == []
    assert transcript.output.startswith(b"HTTP/1.1 400 ")


def test_names_tell_them_apart():
    names = [named(case) for case in (*VALID, *INVALID, *UNFINISHED)]
    assert len(set(names)) == len(names)
