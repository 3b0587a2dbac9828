"""Header fields: a mapping without case, and no way to split a message."""

from __future__ import annotations

import re

import pytest

from gworker.core.fields import TOKEN
from gworker.http import Headers, Response
from gworker.http.headers import tokens


def test_headers_are_a_case_insensitive_mapping():
    headers = Headers({"A": "1", "B": "2"})
    headers["a"] = "3"
    assert "A" in headers
    assert 5 not in headers
    assert headers["A"] == "3"
    assert list(headers) == ["a", "B"]
    assert len(headers) == 2
    assert headers == {"a": "3", "B": "2"}
    del headers["b"]
    with pytest.raises(KeyError):
        headers["B"]
    headers.add("x", "1")
    headers.add("X", "2")
    assert list(headers.pairs()) == [("a", "3"), ("x", "1"), ("x", "2")]
    assert repr(headers) == "Headers([('a', '3'), ('x', '1'), ('x', '2')])"
    headers["X"] = "4"
    assert headers.get_all("x") == ["4"]


SPLITTING = ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "a\x0bb", "\u010a", "a\x7f"]


@pytest.mark.parametrize("value", SPLITTING)
def test_no_value_ends_its_line(value):
    """U+010A would become LF if it were cut to a byte."""
    headers = Headers()
    for attempt in (
        lambda: headers.add("X", value),
        lambda: headers.__setitem__("X", value),
        lambda: Headers({"X": value}),
        lambda: Headers([("X", value)]),
        lambda: Response(headers={"X": value}),
        lambda: Response(content_type=value),
        lambda: Response().set_cookie("a", value),
        lambda: Response().set_cookie("a", "b", path=value),
        lambda: Response().set_cookie("a", "b", domain=value),
        lambda: Response().set_cookie("a", "b", samesite=value),
        lambda: Response().set_cookie(value, "b"),
        lambda: headers.add(value, "x"),
    ):
        with pytest.raises(ValueError, match="."):
            attempt()
    assert not headers


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r", "é", "(a)"])
def test_names_are_tokens(name):
    with pytest.raises(ValueError, match="token"):
        Headers().add(name, "x")


@pytest.mark.parametrize(("name", "value"), [("X", 1), ("X", None), (b"X", "a"), ("X", b"a")])
def test_fields_are_str(name, value):
    with pytest.raises(TypeError, match="str"):
        Headers().add(name, value)


def test_members_of_a_list_in_lower_case():
    assert tokens(Headers({"Connection": "keep-alive,\tUpgrade , "}), "connection") == [
        "keep-alive",
        "upgrade",
        "",
    ]


@pytest.mark.parametrize("text", ["", "a b", "a:", "é", "a,b", 'a"', "a/b"])
def test_what_is_no_token(text):
    assert re.fullmatch(TOKEN, text) is None


def test_a_token_has_every_character_of_rfc_9110():
    assert re.fullmatch(TOKEN, "!#$%&'*+-.^_`|~09azAZ")
