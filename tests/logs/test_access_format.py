"""Lines in a format of one's own: each atom, and what a client cannot forge."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from gworker.config.access_format import ATOMS, access_format
from gworker.config.settings import Layer, Settings, resolve
from gworker.logs.access_format import GETTERS, CustomFormat, custom_format
from gworker.logs.access_log import MAX_FIELD, Entry

HEAD = (
    b"GET /a%20b;x?q=1&r HTTP/1.1\r\nHost: a\r\nReferer: http://r/\r\nUser-Agent: me/1\r\n"
    b"Authorization: Basic YWRhOnB3\r\nX-Id: 7\r\n\r\n"
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Version: 3\r\n\r\n"
EVIL = b'\r\n\x1b[31m"\\\xe9\x00\x85'  # ends of lines, escapes, quotes, controls, latin-1


def entry(**fields: Any) -> Entry:
    made = Entry("http", "192.0.2.7", "192.0.2.7:1", HEAD, 200, 512, 1.2345678)
    made.answer = ANSWER
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def line(text: str, **fields: Any) -> str:
    found = access_format(text)
    assert found is not None
    made = CustomFormat(found, of_connections=True)("web#0", entry(**fields))
    assert made.count(b"\n") == 1
    return made.decode("ascii")[:-1]


@pytest.mark.parametrize(
    ("atom", "expected"),
    [
        ("%(h)s", "192.0.2.7"), ("%(l)s", "-"), ("%(u)s", "ada"),
        ("%(r)s", "GET /a%20b;x?q=1&r HTTP/1.1"), ("%(s)s", "200"), ("%(m)s", "GET"),
        ("%(U)s", "/a%20b;x"), ("%(q)s", "q=1&r"), ("%(H)s", "HTTP/1.1"), ("%(B)s", "512"),
        ("%(b)s", "512"), ("%(f)s", "http://r/"), ("%(a)s", "me/1"), ("%(T)s", "1"),
        ("%(D)s", "1234567"), ("%(M)s", "1234"), ("%(L)s", "1.234568"),
        ("%(w)s", "web#0"), ("%(P)s", "http"), ("%(I)s", "-"),
        ("%(c)s", "-"), ("%(C)s", "-"), ("%({x-id}i)s", "7"), ("%({X-None}i)s", "-"),
        ("%({X-Version}o)s", "3"), ("%({x-none}o)s", "-"), ("%({HTTP_X_ID}e)s", "7"),
        ("%({PATH_INFO}e)s", "/a%20b;x"), ("%({REMOTE_ADDR}e)s", "192.0.2.7"),
        ("%({NOT_THERE}e)s", "-"), ("100%%", "100%"),
    ],
)  # fmt: skip
def test_each_atom(atom: str, expected: str) -> None:
    assert line(atom) == expected


def test_the_process() -> None:
    assert line("%(p)s") == f"<{os.getpid()}>"


def test_every_atom_has_a_function() -> None:
    assert set(GETTERS) == set(ATOMS)


def test_the_time_is_that_of_the_combined_format() -> None:
    assert re.fullmatch(r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", line("%(t)s"))


def test_a_variable_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGION", "eu")
    assert line("%({REGION}e)s") == "eu"


@pytest.mark.parametrize("atom", ["r", "U", "q", "m", "H", "f", "a", "u", "{x}i", "{x}o", "C"])
def test_a_client_cannot_forge_a_line(atom: str) -> None:
    evil = EVIL.replace(b"\r\n", b"\r")  # what a field could hold at most
    head = b"G%bT /%b?%b HTTP/1.1%b\r\nX: %b\r\nReferer: %b\r\nUser-Agent: %b\r\n\r\n" % (
        (evil,) * 7
    )
    fields = {"head": head, "answer": b"HTTP/1.1 200\r\nx: %b\r\n\r\n" % evil}
    fields["close_reason"] = evil.decode("latin-1")  # type: ignore[assignment]
    found = line(f'"%({atom})s"', **fields)
    assert found.isprintable()
    assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', found)
    parsed = json.loads(line(f'{{"a": "%({atom})s", "b": 1}}', **fields))
    assert set(parsed) == {"a", "b"}


def test_a_long_field_is_cut() -> None:
    head = b"GET / HTTP/1.1\r\nReferer: %b\r\n\r\n" % (b"x" * 5000)
    assert len(line("%(f)s", head=head)) <= MAX_FIELD + 3
    assert len(json.loads(line('{"f": "%(f)s"}', head=head))["f"]) == MAX_FIELD


def test_json_has_numbers_and_null() -> None:
    text = '{"status": %(s)s, "ms": %(M)s, "close": %(c)s, "ua": "%(a)s"}'
    assert json.loads(line(text)) == {"status": 200, "ms": 1234, "close": None, "ua": "me/1"}
    assert json.loads(line(text, status=0, head=b""))["status"] is None


def test_what_has_no_request() -> None:
    nothing = {"head": b"", "status": 0, "received": 9, "ip": "", "answer": b""}
    assert line("%(h)s %(r)s %(s)s %(m)s %(U)s %(I)s %({x}i)s", **nothing) == "unix - - - - 9 -"
    assert line("%(r)s|%(m)s|%(U)s", head=b"rubbish\r\n") == "rubbish|-|-"


def settings(*values: Any) -> Settings:
    return resolve("app", *(Layer(f"layer {at}", each) for at, each in enumerate(values)))


def test_whose_format_counts() -> None:
    own, all_of_them, declared = map(access_format, ("own", "all", "declared"))
    file = {"of_workers": {"web": {"access_log_format": own}}}
    said = {"access_log_format": all_of_them}
    options = {"access_log_format": declared}
    found = [
        custom_format("web", options, each)
        for each in (settings(file | said), settings(said), settings({}))
    ]
    shown = [(each("web#0", entry()), each.of_connections) for each in found if each]
    assert shown == [(b"own\n", True), (b"all\n", False), (b"declared\n", True)]
    assert custom_format("web", {}, settings({})) is None
